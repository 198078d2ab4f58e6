import fastifyRedis from '@fastify/redis'
import fp from 'fastify-plugin'
import { Redis } from 'ioredis'
import type { Config } from '../config.ts'
import { waitFor } from '../start.ts'

/**
 * Decorates the instance with `redis`, after waiting for the server at most `BOOT_TIMEOUT` seconds. A command fails at
 * once while there is no connection, and after 2 s when the server hangs; a connection that is lost or silent is replaced.
 */
export default fp<{ config: Config }>(async (app, { config }) => {
  const client = new Redis({
    host: config.REDIS_HOST, port: config.REDIS_PORT, db: config.REDIS_DB, password: config.REDIS_PASSWORD,
    lazyConnect: true, connectTimeout: 2000, commandTimeout: 2000, socketTimeout: 3000,
    enableAutoPipelining: true, enableOfflineQueue: false, autoResendUnfulfilledCommands: false, maxRetriesPerRequest: 0,
    retryStrategy: (tries) => Math.min(tries * 100, 1000)
  })
  let reason: Error | undefined
  client.on('error', (error: Error) => {
    reason = error
    app.log.warn(`the Redis connection failed: ${error.message}`)
  })
  app.addHook('onClose', async () => client.disconnect())

  // The plugin below would wait without end for a server that is not there, so it gets a client that is connected.
  await waitFor(`Redis at ${config.REDIS_HOST}:${config.REDIS_PORT}`, config.BOOT_TIMEOUT, app.log, async () => {
    if (client.status === 'wait') await client.connect()
    // While it connects, the client takes a database number that is out of range for a warning, and stays on number 0.
    await client.select(config.REDIS_DB).catch((error) => { throw reason ?? error })
  })
  await app.register(fastifyRedis, { client })
}, { name: 'redis' })
