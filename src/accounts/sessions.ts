import { randomBytes } from 'node:crypto'
import type { FastifyRedis } from '@fastify/redis'
import { RedisUnavailable } from '../errors.ts'

// Sessions are shared with the Go service: `session:<token>` holds the user's id as a decimal string, for 24 hours.
const TTL_SECONDS = 24 * 60 * 60
const key = (token: string) => `session:${token}`
const throwNamed = (cause: unknown) => { throw new RedisUnavailable({ cause }) }

/** Starts a session. @returns its token @throws {RedisUnavailable} */
export async function startSession (redis: FastifyRedis, userId: number): Promise<string> {
  const token = randomBytes(32).toString('hex')
  await redis.set(key(token), userId, 'EX', TTL_SECONDS).catch(throwNamed)
  return token
}

/** @returns the id of the user whose session this is, or undefined when there is none @throws {RedisUnavailable} */
export async function findSession (redis: FastifyRedis, token: string): Promise<number | undefined> {
  const userId = await redis.get(key(token)).catch(throwNamed)
  return userId && /^\d+$/.test(userId) ? Number(userId) : undefined
}

/** Ends a session; one that is not there has ended already. @throws {RedisUnavailable} */
export async function endSession (redis: FastifyRedis, token: string): Promise<void> {
  await redis.del(key(token)).catch(throwNamed)
}
