import fastifyPostgres from '@fastify/postgres'
import fp from 'fastify-plugin'
import pg from 'pg'
import type { Config } from '../config.ts'
import { migrate } from '../database/migrate.ts'
import { createPipeline, createQuery, type Pipeline, type Query } from '../database/query.ts'
import { type Log, waitFor } from '../start.ts'

declare module 'fastify' {
  interface FastifyInstance { sql: Query, pipeline: Pipeline }
}

// Ids are bigint columns below 2^53, and JSON numbers on the wire.
pg.types.setTypeParser(pg.types.builtins.INT8, Number)

// All that is asked for here is found by a key. Without a word, PostgreSQL reads whole tables: near the end of the room, all of
// chat_user; and, by a plan that it made while they were empty and has kept, all of the messages and of the log.
const PLANS = ['plan_cache_mode=force_generic_plan', 'enable_seqscan=off', 'enable_hashjoin=off', 'enable_mergejoin=off']
  .map((setting) => `-c ${setting}`).join(' ')

/**
 * How this service connects. A statement is ended by the server after 2 s, and given up here a moment later should the server
 * hang.
 */
export const connectionOptions = (config: Config) => ({
  ...(config.POSTGRES_URL !== undefined
    ? { connectionString: config.POSTGRES_URL }
    : { host: config.POSTGRES_HOST, port: config.POSTGRES_PORT, database: config.POSTGRES_DB, user: config.POSTGRES_USER, password: config.POSTGRES_PASSWORD }),
  application_name: 'chat-backend',
  connectionTimeoutMillis: 2000, statement_timeout: 2000, query_timeout: 2250,
  lock_timeout: 1800, idle_in_transaction_session_timeout: 10_000, options: PLANS
})

/** Waits for the server at most `BOOT_TIMEOUT` seconds, and migrates the database unless `MIGRATE` is off. */
export async function migrateWhenReady (config: Config, log: Log): Promise<void> {
  const where = config.POSTGRES_URL === undefined ? `${config.POSTGRES_HOST}:${config.POSTGRES_PORT}` : new URL(config.POSTGRES_URL).host
  await waitFor(`PostgreSQL at ${where}`, config.BOOT_TIMEOUT, log, async () => {
    const client = new pg.Client({ ...connectionOptions(config), statement_timeout: 0, query_timeout: 0, lock_timeout: 0 })
    client.on('error', () => {}) // A query reports it as well.
    try {
      await client.connect()
      if (config.MIGRATE !== 'off') await migrate(client, log, config.MIGRATE === 'own')
    } finally {
      await client.end()
    }
  })
}

/** Decorates the instance with `pg` (the pool), and with `sql` and `pipeline` (the same, with outages named), once the database is ready. */
export default fp<{ config: Config }>(async (app, { config }) => {
  await migrateWhenReady(config, app.log)
  await app.register(fastifyPostgres, { ...connectionOptions(config), max: config.POSTGRES_POOL, pipeline: true })
  // An idle connection that the server ends must not end the process: https://node-postgres.com/apis/pool#error
  app.pg.pool.on('error', ({ message }) => app.log.warn(`an idle PostgreSQL connection was lost: ${message}`))
  // Nor must one in use, whose statements report it as well, or on its way from one use to the next.
  app.pg.pool.on('connect', (client) => client.on('error', () => {}))
  app.decorate('sql', createQuery(app.pg.pool))
  app.decorate('pipeline', createPipeline(app.pg.pool))
}, { name: 'postgres' })
