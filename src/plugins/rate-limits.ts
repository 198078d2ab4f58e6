import type { FastifyReply, onRequestAsyncHookHandler } from 'fastify'
import fp from 'fastify-plugin'
import type { Config } from '../config.ts'
import { InvalidCredentials, RateLimited } from '../errors/catalogue.ts'
import {
  type Claim,
  type Consumption,
  type Policy,
  RateLimiter,
  type Standing
} from '../redis/rate-limiter.ts'
import { bearerToken } from './authenticate.ts'

interface Limit extends Policy {
  /** The label of the metric. */
  label: 'failures' | 'logins' | 'registrations' | 'sessions' | 'writes'
}

const FAILURES_BY_ACCOUNT: Limit = {
  name: 'failed-logins-by-account',
  label: 'failures',
  quota: 10,
  seconds: 15 * 60
}
const FAILURES_BY_ADDRESS: Limit = {
  name: 'failed-logins-by-address',
  label: 'failures',
  quota: 100,
  seconds: 60 * 60
}
const LOGINS: Limit = { name: 'logins', label: 'logins', quota: 60, seconds: 60 * 60 }
const REGISTRATIONS: Limit = { name: 'registrations', label: 'registrations', quota: 60, seconds: 60 * 60 }
const SESSIONS: Limit = { name: 'session-management', label: 'sessions', quota: 30, seconds: 60 }
const WRITES: Limit = { name: 'writes', label: 'writes', quota: 10, seconds: 2, isTokenBucket: true }

declare module 'fastify' {
  interface FastifyInstance {
    /** A hook after `authenticate`, for changes of the room. Counts by user. */
    limitWrites: onRequestAsyncHookHandler
    /**
     * A hook after `authenticate`, for users who manage their own account: its sessions, API tokens and
     * password, and its deletion. Counts by session, not by user: a thief with a stolen token must not use up
     * the quota that the user needs to end that session.
     */
    limitAccountManagement: onRequestAsyncHookHandler
    /** Counts a registration by address, unless `work` throws. */
    limitRegistrations: <Done>(reply: FastifyReply, work: () => Promise<Done>) => Promise<Done>
    /**
     * Counts a wrong password, by account and address: when `work` throws `InvalidCredentials`, or
     * `RateLimited`, because the password was checked.
     * @param account the user's id, or the normalised nickname if there is no such user
     */
    limitGuesses: <Done>(
      reply: FastifyReply,
      account: string | number,
      work: () => Promise<Done>
    ) => Promise<Done>
    /** Counts a login by user, unless `work` throws. */
    limitLogins: <Done>(reply: FastifyReply, userId: number, work: () => Promise<Done>) => Promise<Done>
  }
}

/**
 * Rate limits that all replicas share. Attempts are charged in advance and refunded if they do not count, so
 * a hundred parallel attempts get no further than a hundred in a row. Every response to a limited request has
 * `RateLimit` headers (draft-ietf-httpapi-ratelimit-headers): `r` is what is left, `t` the seconds until that
 * grows.
 */
export default fp<{ config: Config }>(
  async (app, { config }) => {
    if (config.RATE_LIMIT === 'off') {
      app.decorate('limitWrites', async () => {})
      app.decorate('limitAccountManagement', async () => {})
      app.decorate('limitRegistrations', (_reply, work) => work())
      app.decorate('limitGuesses', (_reply, _account, work) => work())
      app.decorate('limitLogins', (_reply, _userId, work) => work())
      return
    }

    const limiter = new RateLimiter<Limit>(app.redis)
    const standingsOf = new WeakMap<FastifyReply, Map<Limit, Standing>>()

    /** Sets the headers, for these limits and those that this request was charged for before. */
    function setHeaders(reply: FastifyReply, standings: Standing<Limit>[]): void {
      const known = standingsOf.get(reply) ?? new Map<Limit, Standing>()
      standingsOf.set(reply, known)
      for (const standing of standings) known.set(standing.policy, standing)
      const all = [...known.values()]
      reply.headers({
        ratelimit: all
          .map(({ policy: { name }, left, resetMs }) => `"${name}";r=${left};t=${Math.ceil(resetMs / 1000)}`)
          .join(', '),
        'ratelimit-policy': all
          .map(({ policy: { name, quota, seconds } }) => `"${name}";q=${quota};w=${seconds}`)
          .join(', ')
      })
    }

    /** @throws {RateLimited | RedisUnavailable} */
    async function consume(reply: FastifyReply, ...claims: Claim<Limit>[]): Promise<Consumption<Limit>> {
      const consumption = await limiter.consume(claims)
      const { isAllowed, standings } = consumption
      setHeaders(reply, standings)
      if (isAllowed) return consumption
      const exhausted = standings.filter(({ left }) => left === 0)
      const waitMs = Math.max(...exhausted.map(({ resetMs }) => resetMs))
      reply.header('retry-after', Math.ceil(waitMs / 1000))
      for (const label of new Set(claims.map(({ policy }) => policy.label))) {
        app.metrics.rejections.inc({ limit: label })
      }
      throw new RateLimited()
    }

    async function refund(reply: FastifyReply, consumption: Consumption<Limit>): Promise<void> {
      setHeaders(reply, await limiter.refund(consumption))
    }

    /** Counts once for what `work` does, unless it throws. */
    async function limitSuccesses<Done>(
      reply: FastifyReply,
      claim: Claim<Limit>,
      work: () => Promise<Done>
    ): Promise<Done> {
      const consumption = await consume(reply, claim)
      try {
        return await work()
      } catch (error) {
        await refund(reply, consumption)
        throw error
      }
    }

    app.decorate('limitWrites', async (request, reply) => {
      await consume(reply, { policy: WRITES, subject: request.userId })
    })
    app.decorate('limitAccountManagement', async (request, reply) => {
      await consume(reply, { policy: SESSIONS, subject: bearerToken(request) })
    })
    app.decorate('limitRegistrations', (reply, work) =>
      limitSuccesses(reply, { policy: REGISTRATIONS, subject: reply.request.clientAddress }, work)
    )
    app.decorate('limitLogins', (reply, userId, work) =>
      limitSuccesses(reply, { policy: LOGINS, subject: userId }, work)
    )
    app.decorate('limitGuesses', async (reply, account, work) => {
      const address = reply.request.clientAddress
      const consumption = await consume(
        reply,
        { policy: FAILURES_BY_ACCOUNT, subject: [address, account] },
        { policy: FAILURES_BY_ADDRESS, subject: address }
      )
      let isCounted = false
      try {
        return await work()
      } catch (error) {
        // With any other error, the service failed, or the client left before the password was checked and
        // has learned nothing. If a further limit refused the login, the charge stays: a right password must
        // not be hashed more often than a wrong one.
        isCounted = error instanceof InvalidCredentials || error instanceof RateLimited
        throw error
      } finally {
        if (!isCounted) await refund(reply, consumption)
      }
    })
  },
  { name: 'rate-limits', dependencies: ['client-address', 'redis', 'metrics'] }
)
