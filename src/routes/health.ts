import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Health } from '../../schemas/health.ts'
import { withTimeout } from '../lib/timeout.ts'
import { DatabaseUnavailable, failures, RedisUnavailable, ShuttingDown } from '../errors/catalogue.ts'

// Below the 2 s in which the contract promises an answer, even when an engine hangs.
const PATIENCE_MS = 1500

// Reads nothing, and fails where a table is missing.
const TABLES = `
  select from chat_message where false union all select from chat_event where false
  union all select from chat_message_key where false union all select from chat_user_skeleton where false`

/** Liveness, which touches no dependency, and readiness, which asks both engines. */
const health: FastifyPluginAsyncTypebox = async (app) => {
  const live = {
    operationId: 'isAlive',
    summary: 'Whether the process turns',
    tags: ['health'],
    response: { 200: Health, ...failures() }
  }
  app.get('/health/livez', { schema: live, config: { isHealth: true } }, async (_request, reply) =>
    reply.code(200).send({ status: 'ok' })
  )

  const ready = {
    operationId: 'isReady',
    summary: 'Whether both engines answer',
    tags: ['health'],
    response: { 200: Health, ...failures(DatabaseUnavailable, RedisUnavailable, ShuttingDown) }
  }
  const checkDatabase = async () => {
    const { watch } = app.room
    await Promise.all([app.sql(TABLES), watch.check()])
    if (watch.problem !== undefined) throw new Error(`the event log is not in force: ${watch.problem}`)
  }
  app.get('/health/readyz', { schema: ready, config: { isHealth: true } }, async (_request, reply) => {
    if (app.drain.isBegun) throw new ShuttingDown()
    await Promise.all([
      withTimeout(PATIENCE_MS, checkDatabase()).catch((cause) => {
        throw new DatabaseUnavailable({ cause })
      }),
      withTimeout(PATIENCE_MS, app.checkRedis()).catch((cause) => {
        throw new RedisUnavailable({ cause })
      })
    ])
    return reply.code(200).send({ status: 'ok' })
  })
}
export default health
