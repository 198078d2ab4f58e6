import { MAX_PAGE, type Message, type PageOfMessages } from '../../schemas/messages.ts'
import type { Query } from '../database/query.ts'

export interface MessageRow { id: number, user_id: number, nickname: string, text: string, created_at: Date }

export const toMessage = (row: MessageRow): Message =>
  ({ id: row.id, userId: row.user_id, nickname: row.nickname, text: row.text, createdAt: row.created_at.toISOString() })

/** Messages ascending by id, and where the log of events stands in the same snapshot. */
export interface Snapshot { messages: Message[], cursor: number }

// One row at the least, so that an empty page has a cursor as well.
const page = (condition: string, order: 'asc' | 'desc', limit: string) => `
  select cursor.seq as cursor, page.* from (select max(seq) as seq from chat_event) cursor left join lateral (
    select message.id, message.user_id, author.nickname, message.text, message.created_at
    from chat_message message join chat_user author on author.id = message.user_id
    ${condition} order by message.id ${order} limit ${limit}
  ) page on true order by page.id`

const NEWEST = page('', 'desc', '$1')
const AFTER = page('where message.id > $1', 'asc', '$2')
const BEFORE = page('where message.id < $1', 'desc', '$2')

/** Reads one page. Each kind has an SQL text of its own, because PostgreSQL plans one text for all of them for the worst. */
export async function listMessages (query: Query, { limit, after_id: after, before_id: before }: PageOfMessages): Promise<Snapshot> {
  const size = Math.min(limit, MAX_PAGE)
  if (after !== undefined) return snapshot(query, AFTER, [after, size])
  return before === undefined ? newestMessages(query, size) : snapshot(query, BEFORE, [before, size])
}

/** Reads the newest messages, as many as there is a use for. */
export const newestMessages = (query: Query, count: number): Promise<Snapshot> => snapshot(query, NEWEST, [count])

async function snapshot (query: Query, sql: string, values: number[]): Promise<Snapshot> {
  const rows = await query<MessageRow & { cursor: number } | { id: null, cursor: number }>(sql, values)
  return { cursor: rows[0]?.cursor ?? 0, messages: rows.flatMap((row) => row.id === null ? [] : [toMessage(row)]) }
}

const EDIT = `
  update chat_message message set text = $3 from chat_user author
  where message.id = $1 and message.user_id = $2 and author.id = message.user_id
  returning message.id, message.user_id, author.nickname, message.text, message.created_at`

/** Changes the text of the user's own message. @returns it as it is now, or undefined when there is none of this user with that id */
export async function editMessage (query: Query, id: number, userId: number, text: string): Promise<Message | undefined> {
  const [row] = await query<MessageRow>(EDIT, [id, userId, text])
  return row && toMessage(row)
}

/** Deletes the user's own message. @returns whether it was there */
export async function deleteMessage (query: Query, id: number, userId: number): Promise<boolean> {
  return (await query('delete from chat_message where id = $1 and user_id = $2 returning id', [id, userId])).length > 0
}
