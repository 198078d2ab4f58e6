import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Health, Readiness } from '../../schemas/health.ts'
import { noSecurity } from '../../schemas/openapi.ts'
import { listMessages } from '../chat/messages.ts'
import { IS_READ_ONLY } from '../database/query.ts'
import { withTimeout } from '../lib/timeout.ts'
import {
  DatabaseUnavailable,
  failures,
  RedisUnavailable,
  ShuttingDown,
  validationFailures
} from '../errors/catalogue.ts'

// readyz must answer within 2 s even if an engine hangs.
const TIMEOUT_MS = 1500
// A follower that lost its connection is back within this time, unless something is wrong.
const RECONNECT_MS = 1000
const RECHECK_MS = 50

// Reads no rows, and fails if a table is missing.
const CHECK = `
  select ${IS_READ_ONLY} as "isReadOnly" where not exists (
    select from chat_message where false union all select from chat_event where false
    union all select from chat_message_key where false union all select from chat_user_skeleton where false
  )`

const NEWEST = { limit: 50 }

/**
 * Liveness, which depends on nothing; readiness, whether this replica can do all of its work; and readiness
 * for reads, whether it can at least serve the newest messages.
 */
const health: FastifyPluginAsyncTypebox = async (app) => {
  const live = {
    operationId: 'getLiveness',
    summary: 'Liveness probe',
    tags: ['health'],
    description: 'Succeeds while the process responds. It does not depend on PostgreSQL or Redis.',
    security: noSecurity,
    response: { 200: Health, ...failures() }
  }
  app.get('/health/livez', { schema: live, config: { isHealth: true } }, async (_request, reply) =>
    reply.code(200).send({ status: 'ok' })
  )

  const { timeline, follower, watch } = app.room

  const checkDatabase = async () => {
    const [row] = await app.sql<{ isReadOnly: boolean }>(CHECK)
    if (row?.isReadOnly) throw new Error('the server takes no writes')
  }
  const checkLog = async () => {
    await watch.check()
    if (watch.problem !== undefined) throw new Error(`the event log is incomplete: ${watch.problem}`)
    await follower.caughtUp()
    const deadline = performance.now() + RECONNECT_MS
    while (!timeline.isFresh) {
      if (performance.now() > deadline) throw new Error('the event log cannot be followed')
      await sleep(RECHECK_MS)
    }
  }
  const checkAll = () =>
    Promise.all([
      withTimeout(TIMEOUT_MS, Promise.all([checkDatabase(), checkLog()])).catch((cause) => {
        throw new DatabaseUnavailable({ cause })
      }),
      withTimeout(TIMEOUT_MS, app.checkRedis()).catch((cause) => {
        throw new RedisUnavailable({ cause })
      })
    ])
  const checkReads = async () => {
    if (timeline.page(NEWEST)) return
    await withTimeout(TIMEOUT_MS, listMessages(app.sql, NEWEST)).catch((cause) => {
      throw new DatabaseUnavailable({ cause })
    })
  }

  const ready = {
    operationId: 'getReadiness',
    security: noSecurity,
    summary: 'Readiness probe',
    tags: ['health'],
    description:
      'Fails when this replica cannot do all of its work: PostgreSQL or Redis does not answer or refuses ' +
      'writes, or the event log is incomplete or cannot be followed.',
    querystring: Readiness,
    response: {
      200: Health,
      ...failures(...validationFailures(Readiness), DatabaseUnavailable, RedisUnavailable, ShuttingDown)
    }
  }
  app.get('/health/readyz', { schema: ready, config: { isHealth: true } }, async (request, reply) => {
    if (app.drain.hasBegun) throw new ShuttingDown()
    await (request.query.for === 'reads' ? checkReads() : checkAll())
    return reply.code(200).send({ status: 'ok' })
  })
}
export default health
