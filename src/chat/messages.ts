import {
  MAX_EXCERPT,
  MAX_PAGE,
  type Message,
  type ListMessagesQuery,
  type RepliedMessage
} from '../../schemas/messages.ts'
import { IS_READ_ONLY, milliseconds, type Pipeline, type Query } from '../database/query.ts'
import { DatabaseUnavailable } from '../errors/catalogue.ts'
import { type Refusal, refusalColumns, toError } from '../moderation/refusals.ts'

/** What a message may have besides Django's columns, null where it has not. */
export interface MessageDetails {
  edited_ms: number | null
  reply_id: number | null
  /** Of the message that this one replies to, null where that one is gone. */
  reply_user_id: number | null
  reply_nickname: string | null
  /** The beginning of its text, longer than an excerpt where the text is. */
  reply_text: string | null
}

/** Times are milliseconds since 1970. */
export interface MessageRow extends MessageDetails {
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
 * An id in SQL that JSON readers keep exact (RFC 8259, section 6). Rows with others are left out. `is true`
 * keeps PostgreSQL from looking for all such ids by an index: as long as it has no statistics, it expects to
 * find only a few of them.
 */
export const isExact = (id: string) =>
  `(${id} between -${Number.MAX_SAFE_INTEGER} and ${Number.MAX_SAFE_INTEGER}) is true`

/** What a `MessageRow` has, from the FROM items that are named here. */
export const messageColumns = (message = 'message', author = 'author', details = 'details') => `
  ${message}.id, ${message}.user_id, ${author}.nickname, ${milliseconds(`${message}.created_at`)} as created_ms,
  case when ${details}.edited_at is not null then ${milliseconds(`${details}.edited_at`)} end as edited_ms,
  ${details}.reply_id, ${details}.reply_user_id, ${details}.reply_nickname, ${details}.reply_text,
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

/**
 * Joins what a message has besides Django's columns, as a FROM item named `details`. What is shown of the
 * message that it replies to is read from that one, so it is always as that one is now.
 * @param message the FROM item of the message
 */
export const joinDetails = (message = 'message') => `left join lateral (
  select stored.edited_at, case when ${isExact('stored.reply_to')} then stored.reply_to end as reply_id,
    replied.user_id as reply_user_id, replied.nickname as reply_nickname, replied.text as reply_text
  from chat_message_detail stored left join lateral (
    select message.user_id, author.nickname, left(message.text, ${MAX_EXCERPT + 1}) as text
    from ${visibleMessages('and id = stored.reply_to')} join chat_user author on author.id = message.user_id
    limit 1 -- or PostgreSQL may read all messages first
  ) replied on true
  where stored.message_id = ${message}.id
) details on true`

/** What a reply shows of the message that it replies to. @param text its text, or the beginning of it */
export function toReplied(id: number, userId: number, nickname: string, text: string): RepliedMessage {
  const characters = [...text.slice(0, 2 * (MAX_EXCERPT + 1))] // of two units at most
  const isLong = characters.length > MAX_EXCERPT
  const excerpt = isLong ? `${characters.slice(0, MAX_EXCERPT - 1).join('')}…` : text
  return { id, userId, nickname, text: excerpt }
}

function repliedOf({
  reply_id: id,
  reply_user_id: userId,
  reply_nickname: nickname,
  reply_text: text
}: MessageDetails): RepliedMessage | undefined {
  if (id === null) return undefined
  if (userId === null || nickname === null || text === null) return { id, deleted: true }
  return toReplied(id, userId, nickname, text)
}

/** Properties that a message does not have are left out, also as own properties. */
export function toMessage(row: MessageRow): Message {
  const message: Message = {
    id: row.id,
    userId: row.user_id,
    nickname: row.nickname,
    text: row.text,
    createdAt: new Date(row.created_ms).toISOString()
  }
  if (row.edited_ms !== null) message.editedAt = new Date(row.edited_ms).toISOString()
  const replyTo = repliedOf(row)
  if (replyTo !== undefined) message.replyTo = replyTo
  return message
}

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

/**
 * A subquery for the messages that meet some conditions, with their authors and details: the first `limit` of
 * them in that order, until their texts have so many bytes. `total` counts those that were left out too.
 * @param options.maxBytes SQL, as are the others
 */
export const readableMessages = ({
  conditions,
  order,
  limit = 'all',
  maxBytes
}: {
  conditions: string
  order: 'asc' | 'desc'
  limit?: string
  maxBytes: string
}) => `
  select total, ${messageColumns('message', 'message')} from (
    select message.*, count(*) over () as total, row_number() over by_id as n,
      sum(octet_length(message.text)) over by_id as bytes
    from (
      select message.*, author.nickname
      from ${visibleMessages(conditions)} join chat_user author on author.id = message.user_id
      order by message.id ${order} limit ${limit}
    ) message window by_id as (order by message.id ${order})
  ) message ${joinDetails()} where n = 1 or bytes <= ${maxBytes}`

// One row at the least, so that an empty page has a cursor as well.
const page = (conditions: string, order: 'asc' | 'desc', limit: string, maxBytes: string) => `
  select cursor.seq as cursor, ${IS_READ_ONLY} as is_read_only, page.*
  from (select max(seq) as seq from chat_event) cursor
  left join lateral (${readableMessages({ conditions, order, limit, maxBytes })}) page on true order by page.id`

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
  { limit, after_id: after, before_id: before }: ListMessagesQuery
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
  select ${messageColumns()} from ${visibleMessages('and id = $1')}
  join chat_user author on author.id = message.user_id ${joinDetails()}`

/** Finds one message, or undefined when there is none with that id. */
export async function findMessage(query: Query, id: number): Promise<Message | undefined> {
  const [row] = await query<MessageRow>(FIND, [id])
  return row && toMessage(row)
}

const EDIT = `
  with author as materialized (
    select * from chat_admit(array[$2::bigint], false)
  ), edited as (
    update chat_message message set text = $3 from author
    where author.refusal is null
      and message.id = (select message.id from ${visibleMessages('and id = $1 and user_id = $2')})
    returning message.id
  )
  select edited.id, ${refusalColumns('author')} from author left join edited on true`

/**
 * Changes the text of the user's own message. @returns it as it is then, or undefined when there is none of
 * this user with that id
 * @throws {Muted | ReadOnly | SessionNotFound}
 */
export async function editMessage(
  pipeline: Pipeline,
  id: number,
  userId: number,
  text: string
): Promise<Message | undefined> {
  // When it was edited is noted by a trigger, after the statement that edits has told what it did.
  const [[edited], found] = await pipeline<{ id: number | null } & (Refusal | { refusal: null }), MessageRow>(
    [EDIT, [id, userId, text]],
    [FIND, [id]]
  )
  if (edited !== undefined && edited.refusal !== null) throw toError(edited)
  if (found === undefined) throw new DatabaseUnavailable()
  const [row] = found
  return edited?.id != null && row ? toMessage(row) : undefined
}

const HAS_DELETED_AT = `exists (
  select from pg_catalog.pg_attribute where attrelid = 'chat_message'::regclass and attname = 'deleted_at' and not attisdropped)`

// Users who are not banned delete their own messages, and where $3 says that they may act as moderators,
// those of whomever their role reaches. The latter is noted in the moderation log, by a function that is
// called for no other row.
const MAY_DELETE = `(user_id = $2 or ($3::boolean and chat_may_delete($2, user_id)))
  and not exists (select from chat_member($2) member where member.kind = 'ban')`
const NOTED = 'case when user_id <> $2 then chat_log_deletion($2, user_id, id) end'

const DELETE = `
  with deleted as (
    delete from chat_message where id = $1 and ${MAY_DELETE} and not ${HAS_DELETED_AT} returning id, user_id
  )
  select ${HAS_DELETED_AT} as "isHiding", deleted.id is not null as "isDeleted", ${NOTED} as noted
  from (select) one left join deleted on true`

const HIDE = `
  with deleted as (
    update chat_message set deleted_at = now() where id = $1 and ${MAY_DELETE} and deleted_at is null
    returning id, user_id
  )
  select ${NOTED} from deleted`

/**
 * Deletes a message of the user's own, or as a moderator another's, which the moderation log then tells: by
 * setting `deleted_at`, where there is such a column, so that Django can bring it back.
 * @param canModerate false to delete nothing but the user's own, whatever the user's role is
 * @returns whether it was there, and the user may delete it
 */
export async function deleteMessage(
  query: Query,
  id: number,
  userId: number,
  canModerate: boolean
): Promise<boolean> {
  const values = [id, userId, canModerate]
  const [result] = await query<{ isDeleted: boolean; isHiding: boolean }>(DELETE, values)
  return result?.isHiding ? (await query(HIDE, values)).length > 0 : (result?.isDeleted ?? false)
}

const DELETE_OF = `
  delete from chat_message where id = any (array(select id from chat_message where user_id = $1 limit $2)) returning id`
const HIDE_OF = `
  update chat_message set deleted_at = now()
  where id = any (array(select id from chat_message where user_id = $1 and deleted_at is null limit $2)) returning id`

/** Deletes some messages of a user, in the same way. @returns their ids */
export async function deleteMessagesOf(query: Query, userId: number, count: number): Promise<number[]> {
  const [found] = await query<{ isHiding: boolean }>(`select ${HAS_DELETED_AT} as "isHiding"`, [])
  const rows = await query<{ id: number }>(found?.isHiding ? HIDE_OF : DELETE_OF, [userId, count])
  return rows.map(({ id }) => id)
}

/** Whether there is a message that readers may see. */
export const hasMessage = async (query: Query, id: number): Promise<boolean> =>
  (await query(`select from ${visibleMessages('and id = $1')}`, [id])).length > 0
