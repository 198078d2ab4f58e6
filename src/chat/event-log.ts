import type { events } from '../../schemas/events.ts'
import type { Message } from '../../schemas/messages.ts'
import type { Room } from '../../schemas/room.ts'
import { IS_READ_ONLY, type Query } from '../database/query.ts'
import {
  isExact,
  joinDetails,
  messageColumns,
  type MessageRow,
  toMessage,
  visibleMessages
} from './messages.ts'

/**
 * One entry of the log, written by the triggers in src/database/migrations.ts. `message` is the message as it
 * was when the log was read. It is missing if the message has been deleted since; a later entry says so.
 */
export interface LogEntry {
  seq: number
  kind: keyof typeof events
  id: number
  message: Message | undefined
  /** The new settings of a `room_updated`. */
  room?: Room
  /** Tells the entry from another one with its `seq`, which a primary that was behind may give again. */
  mark?: string | undefined
}

export type LogRow = {
  seq: number
  kind: LogEntry['kind']
  message_id: number
  room: Room | null
  mark: string
  /** Whether the log has more entries after this one. */
  has_next: boolean
} & (MessageRow | { id: null })

/** How many entries the follower and the writer read at once. */
const LOG_PAGE = 1000
/** How many bytes of text they read at once, unless a single message is larger. */
const LOG_PAGE_BYTES = 4 * 1024 * 1024

/** The mark of an entry in SQL: its time, in microseconds. */
const MARK = 'created_at::text'

/**
 * The log from the entry `$1` on, with one entry more than `limit`. Changes of messages whose ids are not
 * exact become updates of nothing. The limit is not a parameter, because PostgreSQL would plan that for a
 * tenth of the table.
 */
const entries = (limit: number) => `
  select seq, message_id, room, ${MARK} as mark,
    case when ${isExact('message_id')} or kind in ('reset', 'room_updated') then kind
      else 'message_updated' end as kind
  from chat_event where seq >= $1 order by seq limit ${limit + 1}`

/**
 * Reads the log from the entry `$1` on: at most `limit` entries with at most `$2` bytes of text. The first
 * row is the entry `$1` itself, without its message; if it is missing, the log does not reach back that far.
 */
const logStatement = (limit: number) => `
  select seq, kind, message_id, room, mark, has_next, ${messageColumns('entry', 'entry', 'entry')} from (
    select event.*, message.*, details.*,
      lead(true, 1, false) over (order by event.seq) as has_next,
      sum(octet_length(message.text)) over (
        order by event.seq rows between unbounded preceding and 1 preceding
      ) as bytes_before
    from (${entries(limit)}) event left join lateral (
      select message.*, author.nickname
      from ${visibleMessages(`
        and id = event.message_id and event.kind <> 'message_deleted' and event.seq > $1`)}
      join chat_user author on author.id = message.user_id
      limit 1 -- or PostgreSQL may read all messages first, and look through them for each entry
    ) message on true ${joinDetails()}
  ) entry where bytes_before is null or bytes_before < $2 order by seq limit ${limit}`

const READ_LOG = logStatement(LOG_PAGE)

/** Reads the log from the entry `$1` on, without the messages. */
const LIST_LOG = `
  select seq, kind, message_id, room, mark, lead(true, 1, false) over (order by seq) as has_next, null as id
  from (${entries(LOG_PAGE)}) entry order by seq limit ${LOG_PAGE}`

/** A statement that reads the log from an entry on, and its values. */
export const readLogFrom = (seq: number): [sql: string, values: unknown[]] => [
  READ_LOG,
  [seq, LOG_PAGE_BYTES]
]
/** The same, but without the messages. */
export const listLogFrom = (seq: number): [sql: string, values: unknown[]] => [LIST_LOG, [seq]]

const toLogEntry = (row: LogRow): LogEntry => ({
  seq: row.seq,
  kind: row.kind,
  id: row.message_id,
  message: row.id === null ? undefined : toMessage(row),
  mark: row.mark,
  ...(row.room !== null && { room: row.room })
})

/** Entries in order, and whether there were more when they were read. */
export interface LogPage {
  entries: LogEntry[]
  hasNext: boolean
}

export const toLogPage = (rows: LogRow[]): LogPage => ({
  entries: rows.map(toLogEntry),
  hasNext: rows.at(-1)?.has_next ?? false
})

/** Reads the log from the entry `seq`, which comes first, without its message. */
export async function readLog(query: Query, seq: number): Promise<LogPage> {
  return toLogPage(await query<LogRow>(...readLogFrom(seq)))
}

// About as much as a stream takes at once. Turning a larger page into events would delay everything else:
// Node accepts one connection in each turn of its loop, so a probe waits a turn for each client before it.
const PART = 200
const PART_BYTES = 256 * 1024
const READ_PART = logStatement(PART)

/** The same, but only a small part of the log. */
export async function readPartOfLog(query: Query, seq: number): Promise<LogPage> {
  return toLogPage(await query<LogRow>(READ_PART, [seq, PART_BYTES]))
}

// Any number that no other program on this database uses for its locks; the same for every replica.
const ANNOUNCER_LOCK = 7_243_005

const CHECK_LOG = `
  select ${IS_READ_ONLY} as "isReadOnly",
    (select ${MARK} from chat_event where seq = $1) as mark,
    (select max(seq) from chat_event) as last,
    case when $2::int is not null then pg_try_advisory_lock(${ANNOUNCER_LOCK}, $2)
      else false end as "isElected"`

/** What a glance at the log tells. */
export interface LogCheck {
  /** Whether the server takes no writes, so that another one may have more entries. */
  isReadOnly: boolean
  /** Of the entry that was asked about, null where the log does not have it. */
  mark: string | null
  /** The newest entry. */
  last: number | null
  /** Whether this connection has taken the lock just now. */
  isElected: boolean
}

/**
 * Looks whether the log has the entry `seq`, and where it ends, without reading more.
 * @param schema to take the lock of the one replica that announces the log of this schema, unless another
 * connection has it
 */
export async function checkLog(query: Query, seq: number, schema?: number): Promise<LogCheck> {
  const [check] = await query<LogCheck>(CHECK_LOG, [seq, schema])
  return check ?? { isReadOnly: true, mark: null, last: null, isElected: false }
}

/** Gives the lock back, which this connection has. */
export async function resign(query: Query, schema: number | undefined): Promise<void> {
  await query('select pg_advisory_unlock($1, $2)', [ANNOUNCER_LOCK, schema])
}
