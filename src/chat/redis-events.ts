import type { FastifyRedis } from '@fastify/redis'

const CHANNEL = 'chat:events'

/**
 * Tells the pages of a later version of the Go service, which listen to this channel, that a message was
 * deleted.
 */
export const publishDeletion = (redis: FastifyRedis, id: number): Promise<unknown> =>
  redis.publish(CHANNEL, JSON.stringify({ type: 'message_deleted', id }))
