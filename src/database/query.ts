import { DatabaseError, type Pool, type QueryResultRow } from 'pg'
import { DatabaseUnavailable } from '../errors.ts'

/** Resolves to the rows of one statement; rejects with `DatabaseUnavailable` when no working PostgreSQL answers, else with the statement's own error. */
export type Query = <Row extends QueryResultRow>(sql: string, values?: unknown[]) => Promise<Row[]>

// SQLSTATEs of a server that cannot work now but may later: connection, authorization, resources, object state and locks,
// operator, system, read-only, no database, no tables yet. https://www.postgresql.org/docs/current/errcodes-appendix.html
const UNAVAILABLE = /^(08|28|53|55|57|58|25006|3D000|42P01)/

export const createQuery = (pool: Pool): Query => async (sql, values) => {
  try {
    return (await pool.query(sql, values)).rows
  } catch (error) {
    const understood = error instanceof DatabaseError && !UNAVAILABLE.test(error.code ?? '')
    throw understood ? error : new DatabaseUnavailable({ cause: error })
  }
}
