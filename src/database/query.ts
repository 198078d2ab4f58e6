import { DatabaseError, type Pool, type QueryResultRow } from 'pg'
import { DatabaseUnavailable } from '../errors.ts'

/** Resolves to the rows of one statement; rejects with `DatabaseUnavailable` when no working PostgreSQL answers, else with the statement's own error. */
export type Query = <Row extends QueryResultRow>(sql: string, values?: unknown[]) => Promise<Row[]>

// SQLSTATEs of a server that cannot work now but may later: connection, resources, operator, system, lock timeout,
// read-only, tables not there yet. https://www.postgresql.org/docs/current/errcodes-appendix.html
const UNAVAILABLE = /^(08|53|57|58|55P03|25006|42P01)/

export const createQuery = (pool: Pool): Query => async (sql, values) => {
  try {
    return (await pool.query(sql, values)).rows
  } catch (error) {
    const understood = error instanceof DatabaseError && !UNAVAILABLE.test(error.code ?? '')
    throw understood ? error : new DatabaseUnavailable({ cause: error })
  }
}
