import { createHash, randomUUID } from 'node:crypto'
import type { FastifyReply, onRequestAsyncHookHandler } from 'fastify'
import fp from 'fastify-plugin'
import type { Result } from 'ioredis'
import type { Config } from '../config.ts'
import { RateLimited, RedisUnavailable } from '../errors/catalogue.ts'
import { bearerToken } from './authenticate.ts'

/** At most `quota` in any period of `seconds`; with `smooth`, as a token bucket. */
interface Policy {
  name: string
  /** The label of the metric. */
  limit: 'failures' | 'logins' | 'registrations' | 'sessions' | 'writes'
  quota: number
  seconds: number
  smooth?: true
}
/** What a policy counts by. The first part decides on which server of a cluster the counter is. */
type Subject = string | number | [string | number, string | number]
interface Claim {
  policy: Policy
  subject: Subject
}
type Claims = [Claim, ...Claim[]]
interface Standing {
  left: number
  /** Milliseconds until more is left. */
  resetMs: number
}

const FAILURES_BY_ACCOUNT: Policy = {
  name: 'failed-logins-by-account',
  limit: 'failures',
  quota: 10,
  seconds: 15 * 60
}
const FAILURES_BY_ADDRESS: Policy = {
  name: 'failed-logins-by-address',
  limit: 'failures',
  quota: 100,
  seconds: 60 * 60
}
const LOGINS: Policy = { name: 'logins', limit: 'logins', quota: 60, seconds: 60 * 60 }
const REGISTRATIONS: Policy = { name: 'registrations', limit: 'registrations', quota: 60, seconds: 60 * 60 }
const SESSIONS: Policy = { name: 'session-management', limit: 'sessions', quota: 30, seconds: 60 }
const WRITES: Policy = { name: 'writes', limit: 'writes', quota: 10, seconds: 2, smooth: true }

// Both scripts charge all keys or none. They return whether they did, and for each key what is left and the
// milliseconds until that grows.
const CLOCK = "local time = redis.call('TIME') local now = time[1] * 1000 + math.floor(time[2] / 1000)"

// A sliding-window log: a sorted set of the times of all charges. No window, wherever it begins, holds more
// than the quota, and a charge can be undone.
const CHARGE = `${CLOCK}
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
const CHARGE_SMOOTHLY = `${CLOCK}
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
    charge: Script<Context>
    chargeSmoothly: Script<Context>
  }
}
declare module 'fastify' {
  interface FastifyInstance {
    /** A hook after `authenticate`, for changes of the room. Counts by user. */
    limitWrites: onRequestAsyncHookHandler
    /**
     * A hook after `authenticate`, for listing and ending sessions. Counts by session, not by user: a thief
     * with a stolen token must not use up the quota that the user needs to end that session.
     */
    limitSessionManagement: onRequestAsyncHookHandler
    /** Counts a registration by address, unless `work` throws. */
    limitRegistrations: <Done>(reply: FastifyReply, work: () => Promise<Done>) => Promise<Done>
    /**
     * Counts a wrong password, by account and address: when `work` resolves to undefined.
     * @param account the user's id, or the normalised nickname if there is no such user
     */
    limitGuesses: <Done>(
      reply: FastifyReply,
      account: string | number,
      work: () => Promise<Done>
    ) => Promise<Done>
    /** Counts a login by user, unless `work` throws or resolves to undefined. */
    limitLogins: <Done>(reply: FastifyReply, userId: number, work: () => Promise<Done>) => Promise<Done>
  }
}

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

/**
 * Rate limits that all replicas share, in Redis. Attempts are charged in advance and refunded if they do not
 * count, so a hundred parallel attempts get no further than a hundred in a row. Every response to a limited
 * request has `RateLimit` headers (draft-ietf-httpapi-ratelimit-headers): `r` is what is left, `t` the
 * seconds until that grows.
 */
export default fp<{ config: Config }>(
  async (app, { config }) => {
    const { redis } = app
    redis.defineCommand('charge', { lua: CHARGE })
    redis.defineCommand('chargeSmoothly', { lua: CHARGE_SMOOTHLY })
    const standings = new WeakMap<FastifyReply, Map<Policy, Standing>>()

    /**
     * Sets the `RateLimit` headers for these policies and those that this request was charged for before.
     */
    function tell(reply: FastifyReply, news: [Policy, Standing][]): void {
      const known = standings.get(reply) ?? new Map<Policy, Standing>()
      standings.set(reply, known)
      for (const [policy, standing] of news) known.set(policy, standing)
      const all = [...known].map(([policy, standing]) => ({ ...policy, ...standing }))
      reply.headers({
        ratelimit: all
          .map(({ name, left, resetMs }) => `"${name}";r=${left};t=${Math.ceil(resetMs / 1000)}`)
          .join(', '),
        'ratelimit-policy': all
          .map(({ name, quota, seconds }) => `"${name}";q=${quota};w=${seconds}`)
          .join(', ')
      })
    }

    /** @returns a function that refunds the charge @throws {RateLimited | RedisUnavailable} */
    async function charge(reply: FastifyReply, claims: Claims): Promise<() => Promise<void>> {
      const id = randomUUID()
      const keys = claims.map(({ policy: { name }, subject }) => counterKey(name, subject))
      const quotas = claims.flatMap(({ policy: { quota, seconds } }) => [quota, seconds * 1000])
      const command = claims.some(({ policy }) => policy.smooth) ? 'chargeSmoothly' : 'charge'
      const [isCharged, ...numbers] = await redis[command](keys.length, ...keys, id, ...quotas).catch(
        (cause) => {
          throw new RedisUnavailable({ cause })
        }
      )
      const news = claims.map(({ policy }, i): [Policy, Standing] => [
        policy,
        { left: numbers[2 * i] ?? 0, resetMs: numbers[2 * i + 1] ?? 0 }
      ])
      tell(reply, news)
      if (isCharged === 0) {
        const waits = news.flatMap(([, { left, resetMs }]) => (left === 0 ? [resetMs] : []))
        reply.header('retry-after', Math.ceil(Math.max(...waits) / 1000))
        app.metrics.rejections.inc({ limit: claims[0].policy.limit })
        throw new RateLimited()
      }
      return async () => {
        tell(
          reply,
          news.map(([policy, { left, resetMs }]) => [policy, { left: left + 1, resetMs }])
        )
        await Promise.all(keys.map((key) => redis.zrem(key, id))).catch(() => {}) // It expires.
      }
    }

    /**
     * Charges, runs `work`, and refunds the charge if `work` throws or its result does not count.
     */
    async function limit<Done>(
      reply: FastifyReply,
      claims: Claims,
      work: () => Promise<Done>,
      counts: (done: Done) => boolean
    ): Promise<Done> {
      const giveBack = config.RATE_LIMIT === 'on' ? await charge(reply, claims) : undefined
      const done = await work().catch(async (error) => {
        // The service failed, or the client left before the password was checked and has learned nothing. But
        // if a further limit refused it, the charge stays: a right password must not be hashed more often
        // than a wrong one.
        if (!(error instanceof RateLimited)) await giveBack?.()
        throw error
      })
      if (!counts(done)) await giveBack?.()
      return done
    }

    app.decorate('limitWrites', async (request, reply) => {
      if (config.RATE_LIMIT === 'on') await charge(reply, [{ policy: WRITES, subject: request.userId }])
    })
    app.decorate('limitSessionManagement', async (request, reply) => {
      if (config.RATE_LIMIT === 'on') {
        await charge(reply, [{ policy: SESSIONS, subject: bearerToken(request) }])
      }
    })
    app.decorate('limitRegistrations', (reply, work) =>
      limit(reply, [{ policy: REGISTRATIONS, subject: reply.request.clientAddress }], work, () => true)
    )
    app.decorate('limitGuesses', (reply, account, work) => {
      const address = reply.request.clientAddress
      const claims: Claims = [
        { policy: FAILURES_BY_ACCOUNT, subject: [address, account] },
        { policy: FAILURES_BY_ADDRESS, subject: address }
      ]
      return limit(reply, claims, work, (done) => done === undefined)
    })
    app.decorate('limitLogins', (reply, userId, work) =>
      limit(reply, [{ policy: LOGINS, subject: userId }], work, (done) => done !== undefined)
    )
  },
  { name: 'rate-limits', dependencies: ['client-address', 'redis', 'metrics'] }
)
