import { MAX_PAGE, type Message, type PageOfMessages } from '../../schemas/messages.ts'
import type { Query } from '../database/query.ts'

interface Row { id: number, user_id: number, nickname: string, text: string, created_at: Date }

const toMessage = (row: Row): Message =>
  ({ id: row.id, userId: row.user_id, nickname: row.nickname, text: row.text, createdAt: row.created_at.toISOString() })

const SELECT = `
  select message.id, message.user_id, author.nickname, message.text, message.created_at
  from chat_message message join chat_user author on author.id = message.user_id`

const INSERT = `
  with author as (
    select id, nickname from chat_user where id = $1
  ), message as (
    insert into chat_message (user_id, text, created_at) select id, $2, now() from author
    returning id, user_id, text, created_at
  )
  select message.id, message.user_id, author.nickname, message.text, message.created_at from message, author`

/** Reads one page, ascending by id. Each kind has an SQL text of its own, because PostgreSQL plans one text for all of them for the worst. */
export async function listMessages (query: Query, { limit, after_id: after, before_id: before }: PageOfMessages): Promise<Message[]> {
  const size = Math.min(limit, MAX_PAGE)
  if (after !== undefined) return (await query<Row>(`${SELECT} where message.id > $1 order by message.id limit $2`, [after, size])).map(toMessage)
  const newestFirst = before === undefined
    ? await query<Row>(`${SELECT} order by message.id desc limit $1`, [size])
    : await query<Row>(`${SELECT} where message.id < $1 order by message.id desc limit $2`, [before, size])
  return newestFirst.map(toMessage).reverse()
}

/** Adds a message. @returns it as it was stored, or undefined when there is no such user */
export async function insertMessage (query: Query, userId: number, text: string): Promise<Message | undefined> {
  const [row] = await query<Row>(INSERT, [userId, text]).catch((error) => {
    if (error.code === '23503') return [] // deleted meanwhile, which the foreign key tells at the commit
    throw error
  })
  return row && toMessage(row)
}
