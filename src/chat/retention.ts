import type { Config } from '../config.ts'
import type { Query } from '../database/query.ts'
import type { Log } from '../start.ts'

// Any constant that no other program on this database uses; the same for every replica.
const LOCK = 7_243_003
const EVERY_MS = 60_000
const BATCH = 1000

// A batch holds up whoever writes for as long as it takes. `turn` leaves the work to one replica at a time. Ids and seqs ascend
// with time, so the primary key finds what is old, and the look at it is short where there is nothing to do.
const oldest = (table: string, id: string) => `
  with turn as (
    select pg_try_advisory_xact_lock(${LOCK}) as is_ours
  ), oldest as (
    select ${id}, created_at from ${table} where (select is_ours from turn) order by ${id} limit ${BATCH}
  ) delete from ${table} where ${id} in (select ${id} from oldest where created_at < now() - $1::interval)`
const TRIM_MESSAGES = `${oldest('chat_message', 'id')} returning id`
// The newest entry stays, because it tells where the log stands.
const TRIM_EVENTS = `${oldest('chat_event', 'seq')} and seq < (select max(seq) from chat_event) returning seq`

/** Deletes the messages and the log entries that are older than the configuration keeps them, in small batches. The log tells of the messages. */
export async function trim (query: Query, { RETENTION_DAYS, EVENT_RETENTION_HOURS }: Pick<Config, 'RETENTION_DAYS' | 'EVENT_RETENTION_HOURS'>): Promise<void> {
  const trimAll = async (sql: string, age: string) => { while ((await query(sql, [age])).length === BATCH); }
  if (RETENTION_DAYS !== undefined) await trimAll(TRIM_MESSAGES, `${RETENTION_DAYS} days`)
  await trimAll(TRIM_EVENTS, `${EVENT_RETENTION_HOURS} hours`)
}

/** Does so every minute. @returns the way to stop it */
export function trimRegularly (query: Query, config: Config, log: Log): () => void {
  let isRunning = false
  const timer = setInterval(async () => {
    if (isRunning) return
    isRunning = true
    await trim(query, config).catch(({ message }) => log.warn(`what is too old could not be deleted: ${message}`))
    isRunning = false
  }, EVERY_MS)
  return () => clearInterval(timer)
}
