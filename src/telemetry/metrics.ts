import fp from 'fastify-plugin'
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client'
import type { Outcome } from '../chat/follower.ts'
import { version } from '../lib/version.ts'
import { routeOf } from './route.ts'

declare module 'fastify' {
  interface FastifyInstance {
    metrics: { registry: Registry; rejections: Counter<'limit'> }
  }
  interface FastifyRequest {
    /** How long the answer was held back at the client's request (a long poll). */
    waitedMs: number
  }
  interface FastifyContextConfig {
    /** The client decides when the response ends, so its duration means nothing. */
    isStream?: boolean
  }
}

const BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]
const OUTCOMES: Outcome[] = ['applied', 'known', 'gap', 'invalid']
// The codes of the errors by which a restriction or a setting of the room refuses a request.
const REFUSALS = ['banned', 'muted', 'read_only', 'slow_mode']
const METHODS = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'])

/**
 * Decorates the instance with `metrics`, for Prometheus. Gauges are read on each scrape; requests, batches
 * and refusals are counted as they happen. Label values come from this code, never from a client.
 */
export default fp(
  async (app) => {
    const registry = new Registry()
    const registers = [registry]
    collectDefaultMetrics({ register: registry })

    const rejections = new Counter({
      registers,
      name: 'chat_rate_limit_rejections_total',
      help: 'Requests refused by a rate limit.',
      labelNames: ['limit']
    })
    for (const limit of ['failures', 'logins', 'registrations', 'sessions', 'writes']) {
      rejections.inc({ limit }, 0)
    }
    app.decorate('metrics', { registry, rejections })

    const refusals = new Counter({
      registers,
      name: 'chat_restriction_refusals_total',
      help: 'Requests refused by a restriction of the user or a setting of the room.',
      labelNames: ['reason']
    })
    for (const reason of REFUSALS) refusals.inc({ reason }, 0)

    const requests = new Histogram({
      registers,
      name: 'http_request_duration_seconds',
      labelNames: ['method', 'route', 'status'],
      help: 'Time to answer a request, excluding the wait of a long poll. Event streams are not counted.',
      buckets: BUCKETS
    })
    app.decorateRequest('waitedMs', 0)
    app.addHook('onResponse', (request, reply, done) => {
      const { isStream } = request.routeOptions.config
      if (!isStream || reply.statusCode !== 200) {
        const method = METHODS.has(request.method) ? request.method : 'unknown'
        // Without the expression that a parameter must match.
        const route = routeOf(request)?.replace(/\(.*\)/, '') ?? 'unknown'
        const seconds = Math.max(0, reply.elapsedTime - request.waitedMs) / 1000
        requests.observe({ method, route, status: reply.statusCode }, seconds)
      }
      const { errorCode } = reply
      if (errorCode !== undefined && REFUSALS.includes(errorCode)) refusals.inc({ reason: errorCode })
      done()
    })

    const gauge = (name: string, help: string, read: () => number) =>
      new Gauge({
        registers,
        name,
        help,
        collect() {
          this.set(read())
        }
      })
    const gauges = (name: string, help: string, read: () => Record<string, number>) =>
      new Gauge({
        registers,
        name,
        help,
        labelNames: ['state'],
        collect() {
          for (const [state, value] of Object.entries(read())) this.set({ state }, value)
        }
      })
    gauges('chat_postgres_pool_connections', 'Connections to PostgreSQL.', () => {
      const { totalCount, idleCount } = app.pg.pool
      return { idle: idleCount, busy: totalCount - idleCount }
    })
    gauge(
      'chat_postgres_pool_waiting',
      'Statements waiting for a connection.',
      () => app.pg.pool.waitingCount
    )
    gauges(
      'chat_password_queue',
      'Passwords being hashed, and passwords waiting for it.',
      () => app.passwords.queue
    )
    gauge('chat_write_queue', 'Messages waiting for the next batch.', () => app.room.writer.queued)
    gauge(
      'chat_log_lag_seconds',
      'Seconds since this process was last known to be at the end of the event log.',
      () => app.room.timeline.lag
    )
    gauge('chat_log_in_force', '1 while every change of a message reaches the event log, otherwise 0.', () =>
      app.room.watch.problem === undefined ? 1 : 0
    )
    gauge('chat_search_queue', 'Searches waiting for their turn.', () => app.messageSearch?.waiting ?? 0)
    gauge(
      'chat_search_index_lag',
      'Entries of the event log that are not indexed for search yet.',
      () => app.messageSearch?.indexer.lag ?? 0
    )
    gauge(
      'chat_log_announcer',
      '1 while this replica tells the others what is new in the log, else 0.',
      () => (app.room.follower.isAnnouncer ? 1 : 0)
    )
    gauge('chat_event_streams', 'Open event streams.', () => app.room.streams.size)
    gauge('chat_long_polls', 'Open long polls.', () => app.room.longPolls.size)
    new Gauge({
      registers,
      name: 'chat_build_info',
      help: 'Always 1. The labels hold the versions of the service and of Node.',
      labelNames: ['version', 'node']
    }).set({ version, node: process.versions.node }, 1)

    const batches = new Histogram({
      registers,
      name: 'chat_write_batch_messages',
      help: 'Messages written in one commit.',
      buckets: [1, 2, 5, 10, 20, 50, 100, 200]
    })
    const publications = new Counter({
      registers,
      name: 'chat_log_publications_total',
      help:
        'What came from other replicas: with news, without, with a gap that was read from PostgreSQL, ' +
        'or invalid.',
      labelNames: ['outcome']
    })
    const missed = new Counter({
      registers,
      name: 'chat_log_missed_messages_total',
      help: 'Messages with a change that was stored, but did not reach the event log.'
    })
    app.addHook('onReady', async () => {
      app.room.writer.onBatch = (size) => batches.observe(size)
      app.room.watch.onMissed = (count) => missed.inc(count)
      for (const outcome of OUTCOMES) publications.inc({ outcome }, 0)
      app.room.follower.onHeard = (outcome) => publications.inc({ outcome })
    })
  },
  { name: 'metrics' }
)
