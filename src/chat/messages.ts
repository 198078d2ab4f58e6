import { MAX_PAGE, type Message, type PageOfMessages } from '../../schemas/messages.ts'
import { IS_READ_ONLY, type Query } from '../database/query.ts'

/** `created_ms` is milliseconds since 1970. */
export interface MessageRow {
  id: number
  user_id: number
  nickname: string
  text: string
  created_ms: number
}

// A longer text, which only another program can store, is cut: it would keep everybody waiting, or not go
// through at all.
const MAX_TEXT_BYTES = 2 ** 24
const CUT_TEXT_LENGTH = 4_000_000 // code points, of four bytes at most

/**
 * A time in SQL as milliseconds since 1970, whatever `DateStyle` is, and within the years that RFC 3339 has.
 */
export const milliseconds = (time: string) => `floor(extract(epoch from
  least(greatest(${time}, '0001-01-01 00:00:00+00'), '9999-12-31 23:59:59.999+00')) * 1000)::bigint`

/**
 * An id in SQL that JSON readers keep exact (RFC 8259, section 6). Rows with others are left out. `is true`
 * keeps PostgreSQL from looking for all such ids by an index: as long as it has no statistics, it expects to
 * find only a few of them.
 */
export const isExact = (id: string) =>
  `(${id} between -${Number.MAX_SAFE_INTEGER} and ${Number.MAX_SAFE_INTEGER}) is true`

/** What a `MessageRow` has, from the FROM items that are named here. */
export const messageColumns = (message = 'message', author = 'author') => `
  ${message}.id, ${message}.user_id, ${author}.nickname, ${milliseconds(`${message}.created_at`)} as created_ms,
  case when octet_length(${message}.text) <= ${MAX_TEXT_BYTES} then ${message}.text
    else left(${message}.text, ${CUT_TEXT_LENGTH}) || '…' end as text`

/**
 * The messages that readers may see, as a FROM item named `message`. Where chat_message has a column
 * `deleted_at`, which a later version of Django adds, a message that has it set is deleted. Where it has not,
 * the name is looked up in the query around this one, and found in `absent`: so a statement needs no change
 * when the column appears.
 */
export const visibleMessages = (
  conditions = ''
) => `(select null::timestamptz as deleted_at) absent cross join lateral (
  select id, user_id, text, created_at from chat_message
  where deleted_at is null and ${isExact('id')} and ${isExact('user_id')} ${conditions}
) message`

export const toMessage = (row: MessageRow): Message => ({
  id: row.id,
  userId: row.user_id,
  nickname: row.nickname,
  text: row.text,
  createdAt: new Date(row.created_ms).toISOString()
})

/** Messages ascending by id, and where the log of events stands in the same snapshot. */
export interface Snapshot {
  messages: Message[]
  cursor: number
  /** Whether some were left out because the texts together are too long. */
  isCut: boolean
  /** Whether the server takes no writes, so that another one may have newer messages. */
  isReadOnly?: boolean
}

/**
 * How many bytes of text a page has, unless one message alone has more: room for any 200 that were posted
 * here.
 */
export const MAX_PAGE_BYTES = 4 * 1024 * 1024

// One row at the least, so that an empty page has a cursor as well.
const page = (conditions: string, order: 'asc' | 'desc', limit: string, maxBytes: string) => `
  select cursor.seq as cursor, ${IS_READ_ONLY} as is_read_only, page.*
  from (select max(seq) as seq from chat_event) cursor left join lateral (
    select total, ${messageColumns('message', 'message')} from (
      select message.*, count(*) over () as total, row_number() over by_id as n,
        sum(octet_length(message.text)) over by_id as bytes
      from (
        select message.*, author.nickname
        from ${visibleMessages(conditions)} join chat_user author on author.id = message.user_id
        order by message.id ${order} limit ${limit}
      ) message window by_id as (order by message.id ${order})
    ) message where n = 1 or bytes <= ${maxBytes}
  ) page on true order by page.id`

const NEWEST = page('', 'desc', '$1', '$2')
const AFTER = page('and id > $1', 'asc', '$2', '$3')
const BEFORE = page('and id < $1', 'desc', '$2', '$3')

/**
 * Reads one page; where its texts are too long, the end of it that is nearer to the cursor, or to the
 * present. Each kind has an SQL text of its own, because PostgreSQL plans one text for all of them for the
 * worst.
 */
export async function listMessages(
  query: Query,
  { limit, after_id: after, before_id: before }: PageOfMessages
): Promise<Snapshot> {
  const size = Math.min(limit, MAX_PAGE)
  if (after !== undefined) return snapshot(query, AFTER, [after, size, MAX_PAGE_BYTES])
  if (before !== undefined) return snapshot(query, BEFORE, [before, size, MAX_PAGE_BYTES])
  return newestMessages(query, size, MAX_PAGE_BYTES)
}

/** Reads the newest messages, at most so many of them, and so many bytes of text. */
export const newestMessages = (query: Query, count: number, maxBytes: number): Promise<Snapshot> =>
  snapshot(query, NEWEST, [count, maxBytes])

type SnapshotRow = { cursor: number; is_read_only: boolean } & (
  (MessageRow & { total: number }) | { id: null }
)

async function snapshot(query: Query, sql: string, values: number[]): Promise<Snapshot> {
  const rows = await query<SnapshotRow>(sql, values)
  const found = rows.flatMap((row) => (row.id === null ? [] : [row]))
  return {
    cursor: rows[0]?.cursor ?? 0,
    isReadOnly: rows[0]?.is_read_only ?? false,
    messages: found.map(toMessage),
    isCut: found.length < (found[0]?.total ?? 0)
  }
}

const FIND = `
  select ${messageColumns()} from ${visibleMessages('and id = $1')} join chat_user author on author.id = message.user_id`

/** Finds one message, or undefined when there is none with that id. */
export async function findMessage(query: Query, id: number): Promise<Message | undefined> {
  const [row] = await query<MessageRow>(FIND, [id])
  return row && toMessage(row)
}

const EDIT = `
  update chat_message message set text = $3 from chat_user author
  where message.id = (select message.id from ${visibleMessages('and id = $1 and user_id = $2')}) and author.id = message.user_id
  returning ${messageColumns()}`

/**
 * Changes the text of the user's own message. @returns it as it is now, or undefined when there is none of
 * this user with that id
 */
export async function editMessage(
  query: Query,
  id: number,
  userId: number,
  text: string
): Promise<Message | undefined> {
  const [row] = await query<MessageRow>(EDIT, [id, userId, text])
  return row && toMessage(row)
}

const HAS_DELETED_AT = `exists (
  select from pg_catalog.pg_attribute where attrelid = 'chat_message'::regclass and attname = 'deleted_at' and not attisdropped)`

const DELETE = `
  with deleted as (
    delete from chat_message where id = $1 and user_id = $2 and not ${HAS_DELETED_AT} returning id
  ) select exists (select from deleted) as "isDeleted", ${HAS_DELETED_AT} as "isHiding"`

const HIDE =
  'update chat_message set deleted_at = now() where id = $1 and user_id = $2 and deleted_at is null returning id'

/**
 * Deletes the user's own message: by setting `deleted_at`, where there is such a column, so that Django can
 * bring it back.
 * @returns whether it was there
 */
export async function deleteMessage(query: Query, id: number, userId: number): Promise<boolean> {
  const [result] = await query<{ isDeleted: boolean; isHiding: boolean }>(DELETE, [id, userId])
  return result?.isHiding ? (await query(HIDE, [id, userId])).length > 0 : (result?.isDeleted ?? false)
}
