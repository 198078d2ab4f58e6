import { type ClientBase, DatabaseError, type Pool, type PoolClient, type QueryResultRow } from 'pg'
import { withTimeout } from '../lib/timeout.ts'
import { DatabaseUnavailable } from '../errors/catalogue.ts'
import { channels, traced } from '../telemetry/tracing.ts'

// From the wait for a free connection to the last row.
const PATIENCE_MS = 2500

/** In SQL, whether the server takes no writes: a standby, or a primary that was fenced off. */
export const IS_READ_ONLY = "(current_setting('transaction_read_only') = 'on')"

/**
 * A time in SQL as milliseconds since 1970, whatever `DateStyle` is, and within the years that RFC 3339 has.
 */
export const milliseconds = (time: string) => `floor(extract(epoch from
  least(greatest(${time}, '0001-01-01 00:00:00+00'), '9999-12-31 23:59:59.999+00')) * 1000)::bigint`

/**
 * Resolves to the rows of one statement; rejects with `DatabaseUnavailable` when no working PostgreSQL
 * answers, else with the statement's own error.
 */
export type Query = <Row extends QueryResultRow>(sql: string, values?: unknown[]) => Promise<Row[]>

// SQLSTATEs of a server that cannot work now but may later: connection, authorization, resources, object
// state and locks, operator, system, read-only, no database, no tables or functions yet.
// https://www.postgresql.org/docs/current/errcodes-appendix.html
const UNAVAILABLE = /^(08|28|53|55|57|58|25006|3D000|42P01|42883)/

const named = (error: unknown) =>
  error instanceof DatabaseError && !UNAVAILABLE.test(error.code ?? '')
    ? error
    : new DatabaseUnavailable({ cause: error })

// A statement with a name is parsed and planned once for each connection.
const names = new Map<string, string>()
const statement = (text: string, values: unknown[]) => {
  const name = names.get(text) ?? `s${names.size + 1}`
  names.set(text, name)
  return { name, text, values }
}

/** Makes a `Query` on one connection, or on any of a pool. */
export const createQuery =
  (connection: Pick<Pool | ClientBase, 'query'>): Query =>
  async <Row extends QueryResultRow>(sql: string, values?: unknown[]) => {
    try {
      return (
        await withTimeout(
          PATIENCE_MS,
          traced(channels.sql, { text: sql }, () =>
            values ? connection.query<Row>(statement(sql, values)) : connection.query<Row>(sql)
          )
        )
      ).rows
    } catch (error) {
      throw named(error)
    }
  }

/**
 * The connections of a pool, which can be replaced all at once: after a failover they may lead to a server
 * that is none any more.
 */
export class Connections {
  #pool: Pool
  #open = new Set<PoolClient>()
  #retired = new WeakSet<PoolClient>()

  constructor(pool: Pool) {
    this.#pool = pool
    pool.on('connect', (client) => this.#open.add(client))
    pool.on('remove', (client) => this.#open.delete(client))
  }

  /** Takes a connection, which the caller releases. @throws {DatabaseUnavailable} */
  async acquire(): Promise<PoolClient> {
    for (;;) {
      const client = await this.#pool.connect().catch((error: unknown) => {
        throw named(error)
      })
      if (!this.#retired.has(client)) return client
      client.release(true)
    }
  }

  /** Replaces all connections when one of them gave no answer, because the others lead to the same server. */
  judge(error: unknown): void {
    if (!(error instanceof DatabaseError)) this.retire()
  }

  /** Has every connection of now closed before it is used again. */
  retire(): void {
    for (const client of this.#open) this.#retired.add(client)
  }
}

/** Makes a `Query` that takes a connection for each statement. */
export const createPoolQuery = (connections: Connections): Query => {
  const run = async <Row extends QueryResultRow>(sql: string, values?: unknown[]) => {
    const client = await connections.acquire()
    try {
      const { rows } = values ? await client.query<Row>(statement(sql, values)) : await client.query<Row>(sql)
      client.release()
      return rows
    } catch (error) {
      client.release(true)
      connections.judge(error)
      throw error
    }
  }
  return async (sql, values) => {
    try {
      return await withTimeout(
        PATIENCE_MS,
        traced(channels.sql, { text: sql }, () => run(sql, values))
      )
    } catch (error) {
      throw error instanceof DatabaseUnavailable ? error : named(error)
    }
  }
}

/**
 * Runs two statements in one round trip, each in a transaction of its own; the second sees what the first has
 * committed.
 * @returns the rows of both, the second's undefined when it failed
 * @throws as a `Query` does, when the first failed
 */
export const createPipeline =
  (connections: Connections) =>
  async <First extends QueryResultRow, Second extends QueryResultRow>(
    first: [sql: string, values: unknown[]],
    second: [sql: string, values: unknown[]]
  ): Promise<[First[], Second[] | undefined]> => {
    const client = await connections.acquire()
    const { stream } = client.connection
    stream.cork() // In one packet: to send costs more than to write.
    const both = Promise.allSettled([
      traced(channels.sql, { text: first[0] }, () => client.query<First>(statement(...first))),
      traced(channels.sql, { text: second[0] }, () => client.query<Second>(statement(...second)))
    ])
    stream.uncork()
    const [done, read] = await both
    client.release(done.status === 'rejected' || read.status === 'rejected')
    for (const outcome of [done, read]) {
      if (outcome.status === 'rejected') connections.judge(outcome.reason)
    }
    if (done.status === 'rejected') throw named(done.reason)
    return [done.value.rows, read.status === 'fulfilled' ? read.value.rows : undefined]
  }
export type Pipeline = ReturnType<typeof createPipeline>
