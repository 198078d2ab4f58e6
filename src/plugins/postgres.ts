import fastifyPostgres from '@fastify/postgres'
import fp from 'fastify-plugin'
import pg from 'pg'
import { formatAddress, postgresAddress, postgresTarget } from '../lib/engine-addresses.ts'
import type { Config } from '../config.ts'
import { findMissingRights, grantRights } from '../database/grants.ts'
import { migrate } from '../database/migrate.ts'
import {
  createPipeline,
  createPoolQuery,
  hangUp,
  type Pipeline,
  PoolConnections,
  type Query
} from '../database/query.ts'
import type { Log } from '../lib/logger.ts'
import { StartError } from '../lib/start-error.ts'
import { waitFor } from '../lib/wait-for.ts'

declare module 'fastify' {
  interface FastifyInstance {
    poolConnections: PoolConnections
    sql: Query
    pipeline: Pipeline
  }
}

// Ids are bigint columns below 2^53, and JSON numbers on the wire.
pg.types.setTypeParser(pg.types.builtins.INT8, Number)

/** Timeouts of the server in milliseconds; 0 is none. */
interface ServerLimits {
  statement_timeout: number
  lock_timeout: number
  idle_in_transaction_session_timeout: number
}

const LIMITS: ServerLimits = {
  statement_timeout: 2000,
  lock_timeout: 1800,
  idle_in_transaction_session_timeout: 10_000
}
export const NO_LIMITS: ServerLimits = {
  statement_timeout: 0,
  lock_timeout: 0,
  idle_in_transaction_session_timeout: 0
}

// Settings that may differ for a database or a role. `default_transaction_read_only`, `search_path` and
// `synchronous_commit` are left to the operator.
const SESSION = {
  DateStyle: 'ISO',
  IntervalStyle: 'postgres',
  TimeZone: 'UTC',
  array_nulls: 'on',
  bytea_output: 'hex',
  default_transaction_deferrable: 'off',
  default_transaction_isolation: 'read committed',
  extra_float_digits: '1',
  idle_session_timeout: '0',
  standard_conforming_strings: 'on',
  transform_null_equals: 'off'
}

// Every statement of this service finds its rows by a key. Left alone, PostgreSQL scans whole tables:
// chat_user, for pages near the end of the room; and the messages and the log, with cached plans from when
// they were empty. Without statistics it would also collect the ids of a page in a bitmap and sort them.
const PLANS = {
  plan_cache_mode: 'force_generic_plan',
  enable_seqscan: 'off',
  enable_hashjoin: 'off',
  enable_mergejoin: 'off',
  enable_bitmapscan: 'off',
  enable_indexonlyscan: 'on',
  enable_indexscan: 'on',
  enable_nestloop: 'on',
  enable_sort: 'on',
  jit: 'off'
}

/**
 * Formats settings as `-c` options of a server process:
 * https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-OPTIONS
 */
const toOptions = (settings: object) =>
  Object.entries(settings)
    .map(([name, value]) => `-c ${name}=${String(value).replace(/[\\ ]/g, '\\$&')}`)
    .join(' ')

/**
 * How this service connects. The server cancels a statement after 2 s; should it hang, the client gives up a
 * moment later. All settings are sent in the startup parameter `options`. Timeouts in a URL are dropped,
 * because they would take precedence.
 */
export function connectionOptions(config: Config, limits = LIMITS): pg.ClientConfig {
  const target = postgresTarget(config)
  return {
    application_name: 'chat-backend',
    ...target,
    statement_timeout: undefined,
    lock_timeout: undefined,
    idle_in_transaction_session_timeout: undefined,
    connectionTimeoutMillis: 2000,
    query_timeout: limits.statement_timeout > 0 ? limits.statement_timeout + 250 : undefined,
    options: `${target.options ?? ''} ${toOptions({ ...SESSION, ...PLANS, ...limits })}`.trim()
  }
}

/** @throws {StartError} if the encoding of the database cannot store every text */
async function checkEncoding(client: pg.Client): Promise<void> {
  const {
    rows: [{ name, encoding }]
  } = await client.query("select current_database() as name, current_setting('server_encoding') as encoding")
  if (encoding !== 'UTF8') {
    throw new StartError(`the database ${name} must have the encoding UTF8, not ${encoding}`)
  }
}

const processOf = async (client: pg.Client): Promise<number> =>
  (await client.query('select pg_backend_pid() as pid')).rows[0].pid

/**
 * Passes a client that is not connected yet to `work`, and closes it afterwards.
 * @param signal closes it at once
 */
async function withClient<Result>(
  options: pg.ClientConfig,
  signal: AbortSignal | undefined,
  work: (client: pg.Client) => Promise<Result>
): Promise<Result> {
  const client = new pg.Client(options)
  client.on('error', () => {}) // A query reports it as well.
  const close = () => hangUp(client)
  signal?.addEventListener('abort', close)
  try {
    return await work(client)
  } finally {
    signal?.removeEventListener('abort', close)
    close()
  }
}

/** Whether one transaction after the other of a connection may be run by different server processes. */
async function isPooledByTransaction(
  config: Config,
  client: pg.Client,
  signal: AbortSignal | undefined
): Promise<boolean> {
  return withClient(connectionOptions(config), signal, async (other) => {
    await other.connect()
    const before = await processOf(client)
    // A pooler gives it the process that has just become free, or else gives that one to the next who asks.
    await other.query('begin')
    return (await processOf(other)) === before || (await processOf(client)) !== before
  })
}

/**
 * Checks that the settings arrived, and that one server process runs the whole session. Without the settings
 * there are no timeouts, and a post answered with 503 could still be written later. Without a session, the
 * lock of a migration would be left to other clients.
 * @throws {StartError} if a pooler refuses or ignores the settings, or pools by transaction
 */
async function checkSession(
  config: Config,
  client: pg.Client,
  signal: AbortSignal | undefined
): Promise<void> {
  const refusal = (what: string) =>
    new StartError(
      'POSTGRES_HOST or POSTGRES_URL must point to PostgreSQL itself, because the pooler at ' +
        `${formatAddress(postgresAddress(config))} ${what}`
    )
  const withoutSettings = refusal('does not pass on the settings of a connection')
  await client.connect().catch((error: Error) => {
    throw error.message.includes('unsupported startup parameter') ? withoutSettings : error
  })
  const {
    rows: [{ mode }]
  } = await client.query("select current_setting('plan_cache_mode') as mode")
  if (mode !== PLANS.plan_cache_mode) throw withoutSettings
  if (await isPooledByTransaction(config, client, signal)) throw refusal('pools by transaction')
}

/**
 * Waits up to `BOOT_TIMEOUT` seconds for the server, and migrates the database unless `MIGRATE` is off.
 * @param signal rejects with the signal's reason, even in the middle of a migration
 */
export async function migrateWhenReady(config: Config, log: Log, signal?: AbortSignal): Promise<void> {
  await waitFor(
    `PostgreSQL at ${formatAddress(postgresAddress(config))}`,
    config.BOOT_TIMEOUT,
    log,
    async () => {
      await withClient(connectionOptions(config), signal, async (client) => {
        await checkSession(config, client, signal)
        await checkEncoding(client)
      })
      if (config.MIGRATE === 'off') return
      // A migration may take long, so only its connection has no limits.
      await withClient(connectionOptions(config, NO_LIMITS), signal, async (client) => {
        await client.connect()
        await migrate(client, log, config.MIGRATE === 'own')
        if (config.MIGRATE_GRANT_TO !== undefined) await grantRights(client, config.MIGRATE_GRANT_TO)
      })
    },
    { signal }
  )
}

/** Logs which rights the role lacks. Requests that need one of them are answered with 503. */
async function reportMissingRights(query: Query, log: Log): Promise<void> {
  const missing = await findMissingRights(query).catch(() => []) // An outage is reported by the follower.
  if (missing.length === 0) return
  log.error(`the database role lacks rights, grant them as docs/database.md shows: ${missing.join('; ')}`)
}

/**
 * Decorates the instance with `pg` (the pool), and with `poolConnections`, `sql` and `pipeline`, which use it
 * and turn outages into `DatabaseUnavailable`, once the database is ready.
 */
export default fp<{ config: Config; signal?: AbortSignal | undefined }>(
  async (app, { config, signal }) => {
    await migrateWhenReady(config, app.log, signal)
    app.addHook('onClose', async () => {
      // After the pool has ended. There is none if its registration failed.
      if (app.hasDecorator('poolConnections')) app.poolConnections.hangUp()
    })
    await app.register(fastifyPostgres, {
      ...connectionOptions(config),
      query_timeout: 0, // `PoolConnections` has its own, after which it cancels the statement.
      max: config.POSTGRES_POOL,
      pipeline: true
    })
    // An error of an idle connection must not crash the process: https://node-postgres.com/apis/pool#error
    app.pg.pool.on('error', ({ message }) =>
      app.log.warn(`an idle PostgreSQL connection was lost: ${message}`)
    )
    // Nor must one of a connection in use, whose statements report it, or between two uses.
    app.pg.pool.on('connect', (client) => client.on('error', () => {}))
    const connections = new PoolConnections(app.pg.pool)
    app.addHook('onClose', async () => connections.stop()) // before the pool ends
    app.decorate('poolConnections', connections)
    const sql = createPoolQuery(connections)
    app.decorate('sql', sql)
    app.decorate('pipeline', createPipeline(connections))
    await reportMissingRights(sql, app.log)
  },
  { name: 'postgres' }
)
