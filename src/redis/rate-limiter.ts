import { createHash, randomUUID } from 'node:crypto'
import type { FastifyRedis } from '@fastify/redis'
import type { Result } from 'ioredis'
import { RedisUnavailable } from '../errors/catalogue.ts'

/** A rate limit: at most `quota` in any period of `seconds`. */
export interface Policy {
  name: string
  quota: number
  seconds: number
  /** Lets the whole quota through as a burst, then refills it evenly. Such a policy is consumed alone. */
  isTokenBucket?: true
}

/** What a policy counts by. The first part decides on which server of a cluster the counter is. */
export type Subject = string | number | [string | number, string | number]

/** A policy, and whom it is about to count. */
export interface Claim<P extends Policy = Policy> {
  policy: P
  subject: Subject
}

/** What is left of a policy for a subject. */
export interface Standing<P extends Policy = Policy> {
  policy: P
  left: number
  /** Milliseconds until more is left. */
  resetMs: number
}

/** The result of `consume`. */
export interface Consumption<P extends Policy = Policy> {
  /** False if one of the policies had nothing left. Then none of them was charged. */
  isAllowed: boolean
  standings: Standing<P>[]
  /** Identifies this consumption in the counters. */
  id: string
  keys: string[]
}

// Both scripts charge all keys or none. They return whether they did, and for each key what is left and the
// milliseconds until that grows.
const CLOCK = "local time = redis.call('TIME') local now = time[1] * 1000 + math.floor(time[2] / 1000)"

// A sliding-window log: a sorted set of the times of all charges. No window, wherever it begins, holds more
// than the quota, and a charge can be undone.
const CONSUME_FROM_WINDOWS = `${CLOCK}
  local answer = { 1 }
  for i, key in ipairs(KEYS) do
    local quota, window = ARGV[2 * i], ARGV[2 * i + 1]
    redis.call('ZREMRANGEBYSCORE', key, 0, now - window)
    answer[2 * i] = quota - redis.call('ZCARD', key)
    answer[2 * i + 1] = (redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')[2] or now) + window - now
    if answer[2 * i] < 1 then answer[1] = 0 end
  end
  if answer[1] == 0 then return answer end
  for i, key in ipairs(KEYS) do
    answer[2 * i] = answer[2 * i] - 1
    redis.call('ZADD', key, now, ARGV[1])
    redis.call('PEXPIRE', key, ARGV[2 * i + 1])
  end
  return answer`

// The generic cell rate algorithm: a single value, the time at which the bucket will be full again.
const CONSUME_FROM_BUCKET = `${CLOCK}
  local window, interval = ARGV[3], ARGV[3] / ARGV[2]
  local full = math.max(redis.call('GET', KEYS[1]) or now, now) + interval
  local left = math.floor((window - full + now) / interval)
  if left < 0 then return { 0, 0, full - now - window } end
  redis.call('SET', KEYS[1], full, 'PX', full - now)
  return { 1, left, (full - now - 1) % interval + 1 }`

type Script<Context extends { type: 'default' | 'pipeline' }> = (
  count: number,
  ...keysThenArguments: (string | number)[]
) => Result<number[], Context>
declare module 'ioredis' {
  interface RedisCommander<Context> {
    consumeFromWindows: Script<Context>
    consumeFromBucket: Script<Context>
  }
}

const scripts = { consumeFromWindows: CONSUME_FROM_WINDOWS, consumeFromBucket: CONSUME_FROM_BUCKET }
/** The commands that run a script. */
export const SCRIPT_COMMANDS = Object.keys(scripts)

const digest = (text: string) => createHash('sha256').update(text).digest('base64url').slice(0, 22)

/**
 * The Redis key of a counter. Names in it are hashed, to keep it short. Keys that are charged together share
 * an address, which is their hash tag, so they are on one server of a cluster
 * (https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#hash-tags).
 */
export function counterKey(policy: string, subject: Subject): string {
  const [first] = [subject].flat()
  const rest = Array.isArray(subject) ? `:${digest(JSON.stringify(subject))}` : ''
  return `chat-backend:limit:{${digest(JSON.stringify(first))}}:${policy}${rest}`
}

/** Counts in Redis, by the clock of Redis, for all replicas together. */
export class RateLimiter<P extends Policy> {
  #redis: FastifyRedis

  constructor(redis: FastifyRedis) {
    this.#redis = redis
    for (const [command, lua] of Object.entries(scripts)) redis.defineCommand(command, { lua })
  }

  /** Charges each of the claims, or none if one of them has nothing left. @throws {RedisUnavailable} */
  async consume(claims: Claim<P>[]): Promise<Consumption<P>> {
    const id = randomUUID()
    const keys = claims.map(({ policy, subject }) => counterKey(policy.name, subject))
    const quotas = claims.flatMap(({ policy: { quota, seconds } }) => [quota, seconds * 1000])
    const isTokenBucket = claims.some(({ policy }) => policy.isTokenBucket)
    const script = isTokenBucket ? 'consumeFromBucket' : 'consumeFromWindows'
    const answer = this.#redis[script](keys.length, ...keys, id, ...quotas)
    const [isAllowed, ...numbers] = await answer.catch((cause) => {
      throw new RedisUnavailable({ cause })
    })
    const standings = claims.map(({ policy }, i) => ({
      policy,
      left: numbers[2 * i] ?? 0,
      resetMs: numbers[2 * i + 1] ?? 0
    }))
    return { isAllowed: isAllowed === 1, standings, id, keys }
  }

  /**
   * Takes a consumption back, as if it had never been; not of a token bucket. If Redis cannot do it now, the
   * charge expires with its window.
   * @returns what is left then
   */
  async refund({ id, keys, standings }: Consumption<P>): Promise<Standing<P>[]> {
    await Promise.all(keys.map((key) => this.#redis.zrem(key, id))).catch(() => {})
    return standings.map((standing) => ({ ...standing, left: standing.left + 1 }))
  }
}
