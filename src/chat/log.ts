import type { events } from '../../schemas/events.ts'
import type { Message } from '../../schemas/messages.ts'
import type { Query } from '../database/query.ts'
import { type MessageRow, toMessage } from './messages.ts'

/**
 * One row of the log, which the triggers of src/database/migrations.ts write. `message` is the living one, as it was when
 * the log was read; it is missing when it has been deleted since, which a later entry tells.
 */
export interface LogEntry { seq: number, kind: keyof typeof events, id: number, message: Message | undefined }

export type LogRow = { seq: number, kind: LogEntry['kind'], message_id: number } & (MessageRow | { id: null })

/** How many entries are read at a time. */
export const LOG_PAGE = 1000

/** Reads the log from the entry `$1` on, that one included: when it is not the first row, the log does not reach back to it. */
export const READ_LOG = `
  select event.seq, event.kind, event.message_id, message.id, message.user_id, author.nickname, message.text, message.created_at
  from chat_event event left join chat_message message on message.id = event.message_id left join chat_user author on author.id = message.user_id
  where event.seq >= $1 order by event.seq limit ${LOG_PAGE}`

export const toLogEntry = (row: LogRow): LogEntry =>
  ({ seq: row.seq, kind: row.kind, id: row.message_id, message: row.id === null ? undefined : toMessage(row) })

/** Reads the log from the entry `seq` on, that one included. */
export const readLog = async (query: Query, seq: number): Promise<LogEntry[]> => (await query<LogRow>(READ_LOG, [seq])).map(toLogEntry)
