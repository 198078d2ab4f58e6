import { createHash, randomUUID } from 'node:crypto'
import type { FastifyReply, onRequestAsyncHookHandler } from 'fastify'
import fp from 'fastify-plugin'
import type { Result } from 'ioredis'
import type { Config } from '../config.ts'
import { RateLimited, RedisUnavailable } from '../errors.ts'

/** At most `quota` in any `seconds`; with `smooth`, as tokens that flow back one by one. */
interface Policy { name: string, limit: 'posts' | 'registrations' | 'failures', quota: number, seconds: number, smooth?: true }
/** A policy, and whom it counts here. */
type Claim = [Policy, unknown]

const FAILURES_BY_NICKNAME: Policy = { name: 'failed-logins-by-nickname', limit: 'failures', quota: 10, seconds: 15 * 60 }
const FAILURES_BY_ADDRESS: Policy = { name: 'failed-logins-by-address', limit: 'failures', quota: 100, seconds: 60 * 60 }
const REGISTRATIONS: Policy = { name: 'registrations', limit: 'registrations', quota: 60, seconds: 60 * 60 }
const POSTS: Policy = { name: 'posts', limit: 'posts', quota: 10, seconds: 2, smooth: true }

// Both scripts charge every key or none. They answer whether they did, then for each key what is left, and the milliseconds until it is more.
const CLOCK = "local time = redis.call('TIME') local now = time[1] * 1000 + math.floor(time[2] / 1000)"

// The times of what was counted: so no window, wherever it begins, holds more than the quota, and a charge can be taken back.
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

type Script<Context extends { type: 'default' | 'pipeline' }> = (count: number, ...keysThenArguments: (string | number)[]) => Result<number[], Context>
declare module 'ioredis' {
  interface RedisCommander<Context> { charge: Script<Context>, chargeSmoothly: Script<Context> }
}
declare module 'fastify' {
  interface FastifyInstance {
    /** A hook after `authenticate`, for what posts a message. */
    limitPosts: onRequestAsyncHookHandler
    /** Counts a registration, unless `work` throws: then it was our fault. */
    limitRegistrations: <Done>(reply: FastifyReply, work: () => Promise<Done>) => Promise<Done>
    /** Counts a failed login of that account (its nickname or its id), which is when `work` resolves to undefined. */
    limitFailures: <Done>(reply: FastifyReply, account: string | number, work: () => Promise<Done>) => Promise<Done>
  }
}

const digest = (who: unknown) => createHash('sha256').update(JSON.stringify(who)).digest('base64url').slice(0, 22)

/**
 * Where the counter of a policy is, whatever it counts: names in it are hashed, so that they are short. What is charged together
 * is of one address, whose part in braces keeps it on one server of a cluster (https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#hash-tags).
 */
export const counterKey = ([{ name }, who]: [Pick<Policy, 'name'>, unknown]) =>
  `chat-backend:limit:{${digest([who].flat()[0])}}:${name}${Array.isArray(who) ? `:${digest(who)}` : ''}`

/**
 * Limits that all replicas share, in Redis. What may fail is charged before it is tried and given back when it did not count,
 * so that a hundred tries at once are not more than a hundred in a row. Every answer to a limited request tells where its client stands
 * (draft-ietf-httpapi-ratelimit-headers); `r` is what is left, `t` the seconds until it is more.
 */
export default fp<{ config: Config }>(async (app, { config }) => {
  const { redis } = app
  redis.defineCommand('charge', { lua: CHARGE })
  redis.defineCommand('chargeSmoothly', { lua: CHARGE_SMOOTHLY })

  /** @returns gives the charge back @throws {RateLimited | RedisUnavailable} */
  async function charge (reply: FastifyReply, ...claims: [Claim, ...Claim[]]): Promise<() => Promise<void>> {
    const id = randomUUID()
    const keys = claims.map(counterKey)
    const command = claims.some(([{ smooth }]) => smooth) ? 'chargeSmoothly' : 'charge'
    const [charged, ...standing] = await redis[command](keys.length, ...keys, id, ...claims.flatMap(([{ quota, seconds }]) => [quota, seconds * 1000]))
      .catch((cause) => { throw new RedisUnavailable({ cause }) })
    const tell = (back: number) => reply.header('ratelimit', claims.map(([{ name }], i) =>
      `"${name}";r=${(standing[2 * i] ?? 0) + back};t=${Math.ceil((standing[2 * i + 1] ?? 0) / 1000)}`).join(', '))
    tell(0).header('ratelimit-policy', claims.map(([{ name, quota, seconds }]) => `"${name}";q=${quota};w=${seconds}`).join(', '))
    if (charged === 0) {
      const waits = standing.filter((_, i) => standing[i - 1] === 0 && i % 2 === 1)
      reply.header('retry-after', Math.ceil(Math.max(...waits) / 1000))
      app.metrics.rejections.inc({ limit: claims[0][0].limit })
      throw new RateLimited()
    }
    return async () => {
      tell(1)
      await Promise.all(keys.map((key) => redis.zrem(key, id))).catch(() => {}) // It expires.
    }
  }

  async function limit<Done> (reply: FastifyReply, claims: [Claim, ...Claim[]], work: () => Promise<Done>, counts: (done: Done) => boolean): Promise<Done> {
    const giveBack = config.RATE_LIMIT === 'on' ? await charge(reply, ...claims) : undefined
    const done = await work().catch(async (error) => {
      await giveBack?.()
      throw error
    })
    if (!counts(done)) await giveBack?.()
    return done
  }

  app.decorate('limitPosts', async (request, reply) => {
    if (config.RATE_LIMIT === 'on') await charge(reply, [POSTS, request.userId])
  })
  app.decorate('limitRegistrations', (reply, work) => limit(reply, [[REGISTRATIONS, reply.request.clientAddress]], work, () => true))
  app.decorate('limitFailures', (reply, account, work) => limit(reply,
    [[FAILURES_BY_NICKNAME, [reply.request.clientAddress, account]], [FAILURES_BY_ADDRESS, reply.request.clientAddress]], work, (done) => done === undefined))
}, { name: 'rate-limits', dependencies: ['client-address', 'redis', 'metrics'] })
