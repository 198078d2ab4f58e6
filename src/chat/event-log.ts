import type { events } from '../../schemas/events.ts'
import type { Message } from '../../schemas/messages.ts'
import type { Room } from '../../schemas/room.ts'
import type { Query } from '../database/query.ts'
import {
  isExact,
  joinDetails,
  messageColumns,
  type MessageRow,
  toMessage,
  visibleMessages
} from './messages.ts'

/**
 * One row of the log, which the triggers of src/database/migrations.ts write. `message` is the living one, as
 * it was when the log was read; it is missing when it has been deleted since, which a later entry tells.
 */
export interface LogEntry {
  seq: number
  kind: keyof typeof events
  id: number
  message: Message | undefined
  /** The room as a `room_updated` has made it. */
  room?: Room
}

export type LogRow = {
  seq: number
  kind: LogEntry['kind']
  message_id: number
  room: Room | null
  /** Whether the log goes on after this row. */
  has_next: boolean
} & (MessageRow | { id: null })

/** How many entries the follower and the writer read at a time. */
const LOG_PAGE = 1000
/** With how many bytes of text, unless one message alone has more. */
export const LOG_PAGE_BYTES = 4 * 1024 * 1024

/**
 * Reads the log from the entry `$1` on, at most `limit` entries, until their texts have `$2` bytes. The entry
 * `$1` itself comes first, without its message: where it does not, the log does not reach back to it. What
 * happened to a message whose id is not exact is told as an update of nothing.
 * The limit is part of the text, because PostgreSQL plans a parameter there for a tenth of the table.
 */
const logStatement = (limit: number) => `
  select seq, kind, message_id, room, has_next, ${messageColumns('entry', 'entry', 'entry')} from (
    select event.*, message.*, details.*,
      lead(true, 1, false) over (order by event.seq) as has_next,
      sum(octet_length(message.text)) over (
        order by event.seq rows between unbounded preceding and 1 preceding
      ) as bytes_before
    from (
      select seq, message_id, room,
        case when ${isExact('message_id')} or kind in ('reset', 'room_updated') then kind else 'message_updated' end as kind
      from chat_event where seq >= $1 order by seq limit ${limit + 1}
    ) event left join lateral (
      select message.*, author.nickname
      from ${visibleMessages("and id = event.message_id and event.kind <> 'message_deleted' and event.seq > $1")}
      join chat_user author on author.id = message.user_id
      limit 1 -- or PostgreSQL may read all messages first, and look through them for each entry
    ) message on true ${joinDetails()}
  ) entry where bytes_before is null or bytes_before < $2 order by seq limit ${limit}`

/** What the writer sends with a batch, in one round trip. */
export const READ_LOG = logStatement(LOG_PAGE)

const toLogEntry = (row: LogRow): LogEntry => ({
  seq: row.seq,
  kind: row.kind,
  id: row.message_id,
  message: row.id === null ? undefined : toMessage(row),
  ...(row.room !== null && { room: row.room })
})

/** Entries in their order, and whether the log went on after them when they were read. */
export interface LogPage {
  entries: LogEntry[]
  hasNext: boolean
}

export const toLogPage = (rows: LogRow[]): LogPage => ({
  entries: rows.map(toLogEntry),
  hasNext: rows.at(-1)?.has_next ?? false
})

/** Reads the log from the entry `seq` on, that one included but without its message. */
export async function readLog(query: Query, seq: number): Promise<LogPage> {
  return toLogPage(await query<LogRow>(READ_LOG, [seq, LOG_PAGE_BYTES]))
}

// About as much as a stream takes at once. A larger page would hold up everybody else while it is turned into
// events: Node accepts one connection in each turn of its loop, so a probe waits for as many turns as there
// are clients before it.
const PART = 200
const PART_BYTES = 256 * 1024
const READ_PART = logStatement(PART)

/** Reads a small part of the log from the entry `seq` on, that one included but without its message. */
export async function readPartOfLog(query: Query, seq: number): Promise<LogPage> {
  return toLogPage(await query<LogRow>(READ_PART, [seq, PART_BYTES]))
}
