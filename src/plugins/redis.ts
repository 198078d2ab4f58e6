import fastifyRedis from '@fastify/redis'
import fp from 'fastify-plugin'
import { Cluster, Redis } from 'ioredis'
import { formatAddress, parseNodes, redisAddresses, redisTarget } from '../lib/engine-addresses.ts'
import type { Config } from '../config.ts'
import { SCRIPT_COMMANDS } from '../redis/rate-limiter.ts'
import { RedisWatch, RETRY_MS } from '../redis/watch.ts'
import { StartError } from '../lib/start-error.ts'
import { withTimeout } from '../lib/timeout.ts'
import { waitFor } from '../lib/wait-for.ts'

const retry = (tries: number) => Math.min(tries * RETRY_MS, 1000)
// `mget` already looks up all sessions of a turn of the event loop (src/accounts/sessions.ts).
const shared = {
  lazyConnect: true,
  enableOfflineQueue: false,
  enableAutoPipelining: true,
  autoPipeliningIgnoredCommands: ['mget']
}
// Commands wait for the replies to those before them, so a connection that is silent for this long is dead.
const timeouts = {
  connectTimeout: 2000,
  disconnectTimeout: 250, // for the server to close the connection as well
  commandTimeout: 2000,
  socketTimeout: 2000,
  autoResendUnfulfilledCommands: false,
  // Whoever subscribes does so again, because ioredis leaves a refusal to nobody, which ends the process.
  autoResubscribe: false,
  maxRetriesPerRequest: 0
}

/** @returns a client that is not connected yet, and what it connects to, for messages */
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
  const one = { ...shared, ...timeouts, retryStrategy: retry, reconnectOnError }
  if (cluster !== undefined) {
    const client = new Cluster(parseNodes(cluster), {
      ...shared,
      // ioredis takes the number of a script's keys for its first key (lib/autoPipelining.ts). In a cluster,
      // the script would be sent in the batch of another server and refused.
      autoPipeliningIgnoredCommands: [...shared.autoPipeliningIgnoredCommands, ...SCRIPT_COMMANDS],
      redisOptions: { ...timeouts, password, reconnectOnError },
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

/**
 * Why a client could not connect. ioredis says that all Sentinels are unreachable, also of one that answered
 * but does not know the master, and each time adds when it asks again.
 */
export const whyNot = ({ message }: Error, { REDIS_SENTINEL_NAME: name }: Config): string =>
  message.replace(
    /^All sentinels are unreachable\..*?(?: Last error(: .*))?$/,
    (_all, last = '') => `no Sentinel gives the address of the master ${name}${last}`
  )

declare module 'fastify' {
  interface FastifyInstance {
    /** Rejects, with the reason, if Redis refuses a command that this service needs. */
    checkRedis: () => Promise<void>
  }
}

/**
 * Decorates the instance with `redis` and `checkRedis`, after waiting up to `BOOT_TIMEOUT` seconds for a
 * usable server. A command fails at once without a connection, and after 2 s if the server hangs. A
 * connection that is lost, silent or leads to a replica is replaced. The commands of one turn of the event
 * loop are sent together.
 */
export default fp<{ config: Config; signal?: AbortSignal | undefined }>(
  async (app, { config, signal }) => {
    const watch = new RedisWatch(app.log)
    const { client, where } = createClient(config, watch.reconnectOnError)
    let reason: string | undefined
    client.on('error', (error: Error) => {
      const before = reason
      reason = whyNot(error, config)
      if (reason !== before) app.log.warn(`the Redis connection failed: ${reason}`)
    })
    client.on('ready', () => {
      reason = undefined
    })
    app.addHook('onClose', async () => {
      watch.stop()
      client.disconnect()
    })

    // @fastify/redis would wait forever for a server that is not there, so give it a connected client.
    await waitFor(
      `Redis at ${where}`,
      config.BOOT_TIMEOUT,
      app.log,
      async () => {
        try {
          // Asks the Sentinels again and again, for as long as none of them knows the master.
          if (client.status === 'wait') await withTimeout(config.BOOT_TIMEOUT * 1000, client.connect())
          // While connecting, the client only warns of a database number that is out of range, and uses 0.
          if (client instanceof Redis) await client.select(client.options.db ?? 0)
          await watch.check(client)
        } catch (error) {
          throw error instanceof StartError || reason === undefined ? error : new Error(reason)
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
