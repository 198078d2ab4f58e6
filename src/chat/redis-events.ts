import type { FastifyRedis } from '@fastify/redis'
import type { Log } from '../lib/logger.ts'

const CHANNEL = 'chat:events'

/**
 * Tells the pages of a later version of the Go service, which listen to this channel, that messages were
 * deleted. Nobody waits for it: a failure is only logged.
 */
export function publishDeletions(redis: FastifyRedis, ids: number[], log: Pick<Log, 'warn'>): void {
  const published = ids.map((id) => redis.publish(CHANNEL, JSON.stringify({ type: 'message_deleted', id })))
  Promise.all(published).catch(({ message }: Error) => log.warn(`could not publish deletions: ${message}`))
}
