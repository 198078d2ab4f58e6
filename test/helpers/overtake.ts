import type { Test } from 'tap'
import { connect } from './database.ts'
import { waitUntil } from './raw.ts'

/**
 * Makes a change of the database that requests have to wait for, because its transaction holds the lock of
 * the room. It is committed once one of them waits.
 * @param t the test
 * @param database its database
 * @returns a function that resolves to the answer of what it is given to do meanwhile
 */
export async function overtaker(t: Test, database: string) {
  const [other, watcher] = [await connect(t, database), await connect(t, database)]
  const waiting =
    "select from pg_stat_activity where datname = current_database() and wait_event = 'advisory'"
  return async <Answer>(
    change: string,
    values: unknown[],
    request: () => Promise<Answer>
  ): Promise<Answer> => {
    await other.query('begin; select pg_advisory_xact_lock(7243002)')
    await other.query(change, values)
    const answer = request()
    await waitUntil('a statement waits for the lock', async () => {
      const { rowCount } = await watcher.query(waiting)
      return rowCount !== 0
    })
    await other.query('commit')
    return answer
  }
}
