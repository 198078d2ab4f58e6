import { createHash, randomUUID } from 'node:crypto'
import type { FastifyReply, onRequestAsyncHookHandler } from 'fastify'
import fp from 'fastify-plugin'
import type { Result } from 'ioredis'
import type { Config } from '../config.ts'
import { RateLimited, RedisUnavailable } from '../errors/catalogue.ts'
import { bearerToken } from './authenticate.ts'

/** At most `quota` in any `seconds`; with `smooth`, as tokens that flow back one by one. */
interface Policy {
  name: string
  /** The label of the metric. */
  limit: 'failures' | 'logins' | 'registrations' | 'sessions' | 'writes'
  quota: number
  seconds: number
  smooth?: true
}
/** Whom a policy counts: the first part tells on which server of a cluster its counter is. */
type Subject = string | number | [string | number, string | number]
interface Claim {
  policy: Policy
  subject: Subject
}
type Claims = [Claim, ...Claim[]]
interface Standing {
  left: number
  /** How long until more is left. */
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

// Both scripts charge every key or none. They answer whether they did, then for each key what is left, and
// the milliseconds until it is more.
const CLOCK = "local time = redis.call('TIME') local now = time[1] * 1000 + math.floor(time[2] / 1000)"

// The times of what was counted: so no window, wherever it begins, holds more than the quota, and a charge
// can be undone.
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

// The generic cell rate algorithm: one time, that at which all tokens will have flowed back.
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
    /** A hook after `authenticate`, for whatever changes the room: one budget for each user. */
    limitWrites: onRequestAsyncHookHandler
    /**
     * A hook after `authenticate`, for what looks at or ends sessions. It counts for each session, not for
     * each user: whoever stole one of a user's tokens must not be able to use up what the user needs to end
     * that session.
     */
    limitSessionManagement: onRequestAsyncHookHandler
    /** Counts a registration, unless `work` throws. */
    limitRegistrations: <Done>(reply: FastifyReply, work: () => Promise<Done>) => Promise<Done>
    /**
     * Counts a wrong password for that account and this address, which is when `work` resolves to undefined.
     * @param account the user's id, or for a nickname that nobody has the nickname as it was looked for
     */
    limitGuesses: <Done>(
      reply: FastifyReply,
      account: string | number,
      work: () => Promise<Done>
    ) => Promise<Done>
    /** Counts a login of that user, unless `work` throws or resolves to undefined. */
    limitLogins: <Done>(reply: FastifyReply, userId: number, work: () => Promise<Done>) => Promise<Done>
  }
}

const digest = (text: string) => createHash('sha256').update(text).digest('base64url').slice(0, 22)

/**
 * Where the counter of a policy is. Names in it are hashed, so that they are short. What is charged together
 * is of one address, whose part in braces keeps it on one server of a cluster
 * (https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#hash-tags).
 */
export function counterKey(policy: string, subject: Subject): string {
  const [first] = [subject].flat()
  const rest = Array.isArray(subject) ? `:${digest(JSON.stringify(subject))}` : ''
  return `chat-backend:limit:{${digest(JSON.stringify(first))}}:${policy}${rest}`
}

/**
 * Limits that all replicas share, in Redis. What may fail is charged before it is tried and given back when
 * it did not count, so that a hundred tries at once are not more than a hundred in a row. Every answer to a
 * limited request tells where its client stands (draft-ietf-httpapi-ratelimit-headers); `r` is what is left,
 * `t` the seconds until it is more.
 */
export default fp<{ config: Config }>(
  async (app, { config }) => {
    const { redis } = app
    redis.defineCommand('charge', { lua: CHARGE })
    redis.defineCommand('chargeSmoothly', { lua: CHARGE_SMOOTHLY })
    const standings = new WeakMap<FastifyReply, Map<Policy, Standing>>()

    /**
     * Tells the client where it stands with these policies, and with those that its request was charged for
     * before.
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

    /** @returns gives the charge back @throws {RateLimited | RedisUnavailable} */
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
     * Does the work for a charge, and gives that back if the work throws, or if what it resolves to does not
     * count.
     */
    async function limit<Done>(
      reply: FastifyReply,
      claims: Claims,
      work: () => Promise<Done>,
      counts: (done: Done) => boolean
    ): Promise<Done> {
      const giveBack = config.RATE_LIMIT === 'on' ? await charge(reply, claims) : undefined
      const done = await work().catch(async (error) => {
        // The fault was ours, or the client went before the password was looked at and has learned nothing.
        // Only what a further limit refused stays counted: a password that is right must not be hashed more
        // often than a wrong one.
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
