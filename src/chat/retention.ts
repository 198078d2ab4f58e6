import type { Config } from '../config.ts'
import type { Query } from '../database/query.ts'
import type { Log } from '../lib/logger.ts'
import { reasonOf } from '../lib/reason.ts'

// An arbitrary constant that no other program uses on this database.
const LOCK = 7_243_003
const EVERY_MS = 60_000
// Other writers wait while a batch is deleted.
const BATCH = 1000
const MAX_BATCHES = 200 // a run
const MAX_IDLE_BATCHES = 5 // a run, in which nothing was old

// One replica at a time trims; for the others the statements match no rows.
const turn = `(select pg_try_advisory_xact_lock(${LOCK}))`

// Ids ascend with time, so the primary key finds old rows. But other programs may set any date, also while
// the deletion waits for them.
const TRIM_MESSAGES = `
  with batch as materialized (
    select id, created_at from chat_message where id > $2 and ${turn} order by id limit ${BATCH}
  ), gone as (
    delete from chat_message
    where id = any (array(select id from batch where created_at < now() - $1::interval))
      and created_at < now() - $1::interval
    returning id
  )
  select count(*)::int as seen, max(id)::text as last, (select count(*)::int from gone) as gone,
    count(*) filter (where created_at > now() + interval '1 day')::int as future
  from batch`

// The log is trimmed only at its beginning, because readers assume that it has no gaps: whatever precedes an
// old entry is old, whatever its time. The newest entry stays, because it marks the end of the log.
const FIND_OLD_EVENTS = `
  select count(*)::int as seen, max(seq) as last,
    max(seq) filter (where created_at < now() - $1::interval) as old
  from (select seq, created_at from chat_event where seq > $2 and ${turn} order by seq limit ${BATCH}) batch`
const TRIM_EVENTS = `
  delete from chat_event where seq = any (array(
    select seq from chat_event
    where seq <= $1 and seq < (select max(seq) from chat_event) and ${turn}
    order by seq limit ${BATCH}
  )) returning seq`

// The moderation log, closed reports and ended restrictions. The database dates the entries, so the oldest
// have the lowest ids. An open report stays as long as its message.
const TRIM_MODERATION = [
  `delete from chat_moderation_log where id = any (array(
    select id
    from (select id, created_at from chat_moderation_log where ${turn} order by id limit ${BATCH}) batch
    where created_at < now() - $1::interval
  )) returning id`,
  `delete from chat_report where id = any (array(
    select report.id from chat_report report where ${turn} and created_at < now() - $1::interval
    and (
      closed_at is not null
      or not exists (select from chat_message message where message.id = report.message_id)
    )
    order by report.id limit ${BATCH}
  )) returning id`,
  `delete from chat_restriction where id = any (array(
    select id from chat_restriction where ${turn} and until < now() - $1::interval order by id limit ${BATCH}
  )) returning id`
]

interface MessageBatch {
  seen: number
  last: string
  gone: number
  future: number
}

type Settings = Pick<Config, 'RETENTION_DAYS' | 'EVENT_RETENTION_HOURS'>

// Ids as text, because not all are exact as JavaScript numbers.
const LOWEST = '-9223372036854775808'

/**
 * Deletes expired rows in small batches. Deleted messages are in the event log like any others.
 */
export class Retention {
  #query: Query
  #settings: Settings
  #log: Log
  /** Where the last run stopped looking for old messages among younger ones. */
  #position = LOWEST
  #hasWarned = false

  constructor(query: Query, settings: Settings, log: Log) {
    this.#query = query
    this.#settings = settings
    this.#log = log
  }

  /** One run, which deletes at most 200,000 rows of each kind. */
  async trim(): Promise<void> {
    const { RETENTION_DAYS: days, EVENT_RETENTION_HOURS: hours } = this.#settings
    if (days !== undefined) {
      await this.#trimMessages(`${days} days`)
      for (const sql of TRIM_MODERATION) await this.#trimBatches(sql, `${days} days`)
    }
    await this.#trimEvents(`${hours} hours`)
  }

  async #trimMessages(age: string): Promise<void> {
    let position = LOWEST
    let future = 0
    for (let batches = 0, idle = 0; batches < MAX_BATCHES && idle < MAX_IDLE_BATCHES; batches++) {
      const [batch]: MessageBatch[] = await this.#query<MessageBatch>(TRIM_MESSAGES, [age, position])
      if (!batch) break
      future += batch.future
      if (batch.gone === 0) {
        idle++
        // Most old messages are at the beginning. For those among younger ones, continue where the last run
        // stopped.
        if (idle === 1 && Number(this.#position) > Number(batch.last)) {
          position = this.#position
          continue
        }
      }
      if (batch.seen < BATCH) {
        position = LOWEST
        break
      }
      position = batch.last
    }
    this.#position = position
    if (future > 0 && !this.#hasWarned) {
      this.#hasWarned = true
      this.#log.warn(
        `retention keeps at least ${future} messages that are dated more than a day in the future`
      )
    }
  }

  async #trimEvents(age: string): Promise<void> {
    const old = await this.#findOldEvents(age)
    if (old !== undefined) await this.#trimBatches(TRIM_EVENTS, old)
  }

  /** Runs a statement that deletes a batch until less than a batch is left. */
  async #trimBatches(sql: string, limit: string | number): Promise<void> {
    for (let batches = 0; batches < MAX_BATCHES; batches++) {
      if ((await this.#query(sql, [limit])).length < BATCH) return
    }
  }

  /** @returns the last old entry, within the reach of one run */
  async #findOldEvents(age: string): Promise<number | undefined> {
    let old: number | undefined
    let position = 0
    for (let batches = 0, idle = 0; batches < MAX_BATCHES && idle < MAX_IDLE_BATCHES; batches++) {
      const [batch] = await this.#query<{ seen: number; last: number; old: number | null }>(FIND_OLD_EVENTS, [
        age,
        position
      ])
      if (!batch) break
      if (batch.old === null) idle++
      else old = batch.old
      if (batch.seen < BATCH) break
      position = batch.last
    }
    return old
  }
}

/** Trims every minute. @returns a function that stops it */
export function trimRegularly(query: Query, config: Config, log: Log): () => void {
  const retention = new Retention(query, config, log)
  let isRunning = false
  const timer = setInterval(() => {
    if (isRunning) return
    isRunning = true
    retention
      .trim()
      .catch((error: unknown) => log.warn(`retention cleanup failed: ${reasonOf(error)}`))
      .finally(() => {
        isRunning = false
      })
  }, EVERY_MS)
  return () => clearInterval(timer)
}
