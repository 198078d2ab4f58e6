import fastifyRedis from '@fastify/redis'
import fp from 'fastify-plugin'
import { Cluster, Redis } from 'ioredis'
import { formatAddress, parseNodes, redisAddresses, redisTarget } from '../lib/engine-addresses.ts'
import type { Config } from '../config.ts'
import { RedisWatch, RETRY_MS } from '../redis/watch.ts'
import { StartError } from '../lib/start-error.ts'
import { waitFor } from '../lib/wait-for.ts'

const retry = (tries: number) => Math.min(tries * RETRY_MS, 1000)
// `mget` looks for all sessions of a turn already (src/accounts/sessions.ts).
const shared = {
  lazyConnect: true,
  enableOfflineQueue: false,
  enableAutoPipelining: true,
  autoPipeliningIgnoredCommands: ['mget']
}
// A command may wait for the answer to those before it, so what is silent for as long as one may take is
// silent for all.
const patience = {
  connectTimeout: 2000,
  commandTimeout: 2000,
  socketTimeout: 2000,
  autoResendUnfulfilledCommands: false,
  maxRetriesPerRequest: 0
}

/** @returns a client that is not connected yet, and what it connects to, for people */
export function createClient(
  config: Config,
  reconnectOnError: (error: Error) => boolean
): { client: Redis | Cluster; where: string } {
  const {
    REDIS_CLUSTER_NODES: cluster,
    REDIS_SENTINELS: sentinels,
    REDIS_DB: db,
    REDIS_PASSWORD: password
  } = config
  const one = { ...shared, ...patience, retryStrategy: retry, reconnectOnError }
  if (cluster !== undefined) {
    const client = new Cluster(parseNodes(cluster), {
      ...shared,
      // Batches are one for each server, and the client takes the number of a script's keys for its first key
      // (ioredis, lib/autoPipelining.ts), so a script would be sent with commands for another server and
      // refused.
      autoPipeliningIgnoredCommands: [...shared.autoPipeliningIgnoredCommands, 'charge', 'chargeSmoothly'],
      redisOptions: { ...patience, password, reconnectOnError },
      clusterRetryStrategy: retry,
      slotsRefreshTimeout: 2000,
      retryDelayOnFailover: 200,
      maxRedirections: 8
    })
    return { client, where: `the cluster of ${cluster}` }
  }
  if (sentinels !== undefined) {
    const client = new Redis({
      ...one,
      db,
      password,
      sentinels: parseNodes(sentinels),
      name: config.REDIS_SENTINEL_NAME,
      sentinelPassword: config.REDIS_SENTINEL_PASSWORD,
      sentinelRetryStrategy: retry,
      sentinelCommandTimeout: 2000
    })
    return { client, where: `the sentinels ${sentinels}` }
  }
  const client = new Redis({ ...one, ...redisTarget(config) })
  return { client, where: redisAddresses(config).map(formatAddress).join(', ') }
}

declare module 'fastify' {
  interface FastifyInstance {
    /** Resolves if Redis does what this service needs, and rejects with the reason if not. */
    checkRedis: () => Promise<void>
  }
}

/**
 * Decorates the instance with `redis` and `checkRedis`, after waiting at most `BOOT_TIMEOUT` seconds for a
 * server that does what the service needs. A command fails at once while there is no connection, and after 2
 * s when the server hangs; a connection that is lost or silent, or leads to a replica, is replaced. Commands
 * of one turn of the event loop are sent together.
 */
export default fp<{ config: Config; signal?: AbortSignal | undefined }>(
  async (app, { config, signal }) => {
    const watch = new RedisWatch(app.log)
    const { client, where } = createClient(config, watch.reconnectOnError)
    let reason: Error | undefined
    client.on('error', (error: Error) => {
      if (error.message !== reason?.message) app.log.warn(`the Redis connection failed: ${error.message}`)
      reason = error
    })
    client.on('ready', () => {
      reason = undefined
    })
    app.addHook('onClose', async () => {
      watch.stop()
      client.disconnect()
    })

    // The plugin below would wait without end for a server that is not there, so it gets a client that is
    // connected.
    await waitFor(
      `Redis at ${where}`,
      config.BOOT_TIMEOUT,
      app.log,
      async () => {
        if (client.status === 'wait') await client.connect()
        try {
          // While it connects, the client takes a database number that is out of range for a warning, and
          // stays on number 0.
          if (client instanceof Redis) await client.select(client.options.db ?? 0)
          await watch.check(client)
        } catch (error) {
          throw error instanceof StartError ? error : (reason ?? error)
        }
      },
      { signal }
    )
    watch.start(client)
    await app.register(fastifyRedis, { client })
    app.decorate('checkRedis', () => watch.check(client))
  },
  { name: 'redis' }
)
