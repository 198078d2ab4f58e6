import { type ClientBase, DatabaseError, type Pool, type QueryResultRow } from 'pg'
import { within } from '../deadline.ts'
import { DatabaseUnavailable } from '../errors.ts'
import { channels, traced } from '../tracing.ts'

// From the wait for a free connection to the last row.
const PATIENCE_MS = 2500

/** Resolves to the rows of one statement; rejects with `DatabaseUnavailable` when no working PostgreSQL answers, else with the statement's own error. */
export type Query = <Row extends QueryResultRow>(sql: string, values?: unknown[]) => Promise<Row[]>

// SQLSTATEs of a server that cannot work now but may later: connection, authorization, resources, object state and locks,
// operator, system, read-only, no database, no tables yet. https://www.postgresql.org/docs/current/errcodes-appendix.html
const UNAVAILABLE = /^(08|28|53|55|57|58|25006|3D000|42P01)/

const named = (error: unknown) => error instanceof DatabaseError && !UNAVAILABLE.test(error.code ?? '') ? error : new DatabaseUnavailable({ cause: error })

// A statement with a name is parsed and planned once for each connection.
const names = new Map<string, string>()
const statement = (text: string, values: unknown[]) => {
  const name = names.get(text) ?? `s${names.size + 1}`
  names.set(text, name)
  return { name, text, values }
}

export const createQuery = (connection: Pick<Pool | ClientBase, 'query'>): Query => async <Row extends QueryResultRow>(sql: string, values?: unknown[]) => {
  try {
    return (await within(PATIENCE_MS, traced(channels.sql, { text: sql }, () => values ? connection.query<Row>(statement(sql, values)) : connection.query<Row>(sql)))).rows
  } catch (error) {
    throw named(error)
  }
}

/**
 * Runs two statements in one round trip, each in a transaction of its own; the second sees what the first has committed.
 * @returns the rows of both, the second's undefined when it failed
 * @throws as a `Query` does, when the first failed
 */
export const createPipeline = (pool: Pool) => async <First extends QueryResultRow, Second extends QueryResultRow>(
  first: [sql: string, values: unknown[]], second: [sql: string, values: unknown[]]
): Promise<[First[], Second[] | undefined]> => {
  const client = await pool.connect().catch((error) => { throw named(error) })
  const { stream } = client.connection
  stream.cork() // In one packet: to send costs more than to write.
  const both = Promise.allSettled([
    traced(channels.sql, { text: first[0] }, () => client.query<First>(statement(...first))),
    traced(channels.sql, { text: second[0] }, () => client.query<Second>(statement(...second)))
  ])
  stream.uncork()
  const [done, read] = await both
  client.release(done.status === 'rejected' || read.status === 'rejected')
  if (done.status === 'rejected') throw named(done.reason)
  return [done.value.rows, read.status === 'fulfilled' ? read.value.rows : undefined]
}
export type Pipeline = ReturnType<typeof createPipeline>
