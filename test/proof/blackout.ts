import type pg from 'pg'
import type { Blackout } from './checker.ts'

/** What somebody may do to the triggers of the event log, so that changes do not reach it. */
export const SABOTAGE = [
  'alter table chat_message disable trigger user',
  'drop trigger chat_event_created on chat_message',
  'drop trigger chat_event_deleted on chat_message',
  'drop trigger chat_event_updated on chat_message'
]

/** Puts triggers out of force, between two changes. @returns the last entry of the log before */
export async function sabotage(client: pg.Client, statement: string): Promise<number> {
  await client.query(`begin; ${statement}`)
  const { rows } = await client.query('select max(seq)::float8 as seq from chat_event')
  await client.query('commit')
  return rows[0].seq
}

/**
 * What is missing in the log now that it is in force again.
 * @param from the last entry before
 * @param earlier the blackouts before this one: of what came in them, no entry may tell that it is gone now
 */
export async function readBlackout(client: pg.Client, from: number, earlier: Blackout[]): Promise<Blackout> {
  const { rows } = await client.query(
    `select
      coalesce(
        (select min(seq) from chat_event where seq > $1 and kind = 'reset'),
        (select max(seq) from chat_event)
      )::float8 as "to",
      array(
        select id::float8 from chat_message message where not exists (
          select from chat_event where kind = 'message_created' and message_id = message.id
        )
        union all
        select message_id::float8 from chat_event deleted where kind = 'message_deleted' and not exists (
          select from chat_event where kind = 'message_created' and message_id = deleted.message_id
        )
      ) as created,
      array(
        select id::float8 from (
          select message_id from chat_event where kind = 'message_created'
          union
          select unnest($2::bigint[])
        ) created (id)
        where not exists (select from chat_message where id = created.id)
          and not exists (select from chat_event where kind = 'message_deleted' and message_id = created.id)
      ) as deleted`,
    [from, earlier.flatMap(({ created }) => created)]
  )
  return { from, ...rows[0] }
}
