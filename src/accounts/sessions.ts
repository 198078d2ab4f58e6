import { createHash, randomBytes } from 'node:crypto'
import { setImmediate as immediate } from 'node:timers/promises'
import type { FastifyRedis } from '@fastify/redis'
import { Cluster, type Redis } from 'ioredis'
import type { ActiveSession } from '../../schemas/accounts.ts'
import { RedisUnavailable } from '../errors.ts'

// Sessions are shared with the Go service: `session:<token>` holds the user's id as a decimal string, for 24 hours.
const TTL_SECONDS = 24 * 60 * 60
const key = (token: string) => `session:${token}`
// What the Go service does not know. These only describe sessions: whether one lives, its own key alone decides.
const indexKey = (userId: number) => `chat-backend:user-sessions:${userId}` // tokens, each with the time when it expires, in milliseconds
const seenKey = (token: string) => `chat-backend:session-seen:${token}` // when it was last used
const throwNamed = (cause: unknown): never => { throw new RedisUnavailable({ cause }) }
// The plugin's type does not tell that a client may be a cluster's.
const isCluster = (redis: Redis | Cluster): redis is Cluster => redis instanceof Cluster

/** Describes a session, and forgets what expired meanwhile. In a cluster these keys are on several servers, so nothing here is one transaction. */
async function describe (redis: FastifyRedis, token: string, userId: number, expiresAt: number): Promise<void> {
  const now = Date.now()
  const index = indexKey(userId)
  await Promise.all([
    redis.zadd(index, 'NX', expiresAt, token), redis.zremrangebyscore(index, 0, now), redis.expire(index, TTL_SECONDS),
    redis.set(seenKey(token), now, 'EX', TTL_SECONDS)
  ])
}

/** Starts a session. @returns its token @throws {RedisUnavailable} */
export async function startSession (redis: FastifyRedis, userId: number): Promise<string> {
  const token = randomBytes(32).toString('hex')
  await Promise.all([
    describe(redis, token, userId, Date.now() + TTL_SECONDS * 1000), redis.set(key(token), userId, 'EX', TTL_SECONDS)
  ]).catch(throwNamed)
  return token
}

/**
 * Makes a function that resolves to the id of the user whose session a token is, or to undefined when there is none; it throws
 * `RedisUnavailable`. All that are asked for in one turn of the event loop are one command, which costs little more than one of them.
 */
export function createFindSession (redis: Redis | Cluster): (token: string) => Promise<number | undefined> {
  let tokens: string[] = []
  let users: Promise<(string | null)[]> | undefined
  const read = async () => {
    await immediate()
    const keys = tokens.map(key)
    tokens = []
    users = undefined
    // In a cluster, keys of one command must be on one server.
    return isCluster(redis) ? Promise.all(keys.map((key) => redis.get(key))) : redis.mget(keys)
  }
  return async (token) => {
    const index = tokens.push(token) - 1
    users ??= read().catch(throwNamed)
    const userId = (await users)[index]
    return userId && /^\d+$/.test(userId) ? Number(userId) : undefined
  }
}

/** Notes that a session is in use; the first time is when a session of the Go service becomes known here. */
export async function noteUse (redis: FastifyRedis, token: string, userId: number): Promise<void> {
  const left = await redis.pttl(key(token))
  if (left > 0) await describe(redis, token, userId, Date.now() + left)
}

/** Lists the sessions of a user, the last used first, with their tokens, which must not go out. @throws {RedisUnavailable} */
export async function listSessions (redis: FastifyRedis, userId: number, current: string): Promise<(ActiveSession & { token: string })[]> {
  await noteUse(redis, current, userId).catch(throwNamed) // its first use may be this one
  const tokens = await redis.zrange(indexKey(userId), '0', '-1').catch(throwNamed)
  const sessions = await Promise.all(tokens.map(async (token) => {
    const [owner, expiresAt, seenAt] = await Promise.all([redis.get(key(token)), redis.zscore(indexKey(userId), token), redis.get(seenKey(token))])
    const createdAt = Number(expiresAt) - TTL_SECONDS * 1000
    return {
      token, owner, current: token === current, id: createHash('sha256').update(token).digest('base64url').slice(0, 22),
      createdAt: new Date(createdAt).toISOString(), lastSeenAt: new Date(Number(seenAt ?? createdAt)).toISOString()
    }
  })).catch(throwNamed)
  return sessions.filter(({ owner }) => owner === `${userId}`).sort((one, other) => one.lastSeenAt < other.lastSeenAt ? 1 : -1)
}

/** Ends a session. @returns whether it was there @throws {RedisUnavailable} */
export async function endSession (redis: FastifyRedis, token: string): Promise<boolean> {
  return await redis.del(key(token)).catch(throwNamed) === 1
}

/**
 * Ends every session of a user but one. It looks at all sessions of all users, a thousand at a time: what this service knows of
 * them may be incomplete, because the Go service starts some too, and whoever ends them all wants a thief's to be among them.
 * @throws {RedisUnavailable}
 */
export async function endOtherSessions (redis: Redis | Cluster, userId: number, current: string): Promise<void> {
  const pass = async (server: Redis) => {
    let cursor = '0'
    do {
      const [next, keys] = await server.scan(cursor, 'MATCH', key('*'), 'COUNT', 1000)
      await Promise.all(keys.map(async (found) => {
        if (found !== key(current) && await redis.get(found) === `${userId}`) await redis.del(found)
      }))
      cursor = next
    } while (cursor !== '0')
  }
  const servers = isCluster(redis) ? redis.nodes('master') : [redis]
  await Promise.all(servers.map(pass)).catch(throwNamed)
}
