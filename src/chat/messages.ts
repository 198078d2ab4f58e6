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

/** What a message may have besides Django's columns, or null. */
export interface MessageDetails {
  edited_ms: number | null
  reply_id: number | null
  /** The author of the message that this one replies to; null if that one is deleted. */
  reply_user_id: number | null
  reply_nickname: string | null
  /** The beginning of its text, at least one character longer than an excerpt if the text is. */
  reply_text: string | null
}

/** Times are in milliseconds since 1970. */
export interface MessageRow extends MessageDetails {
  id: number
  user_id: number
  nickname: string
  text: string
  created_ms: number
}

// Only other programs can store longer texts. They are cut: they would delay everybody, or fail altogether.
const MAX_TEXT_BYTES = 2 ** 24
const CUT_TEXT_LENGTH = 4_000_000 // code points, of four bytes at most

/**
 * SQL condition for an id that is exact in JSON (RFC 8259, section 6). Other rows are left out. `is true`
 * keeps PostgreSQL from using an index for it: without statistics it expects few such ids.
 */
export const isExact = (id: string) =>
  `(${id} between -${Number.MAX_SAFE_INTEGER} and ${Number.MAX_SAFE_INTEGER}) is true`

/** The columns of a `MessageRow`. The parameters are aliases in the FROM clause. */
export const messageColumns = (message = 'message', author = 'author', details = 'details') => `
  ${message}.id, ${message}.user_id, ${author}.nickname,
  ${milliseconds(`${message}.created_at`)} as created_ms,
  case when ${details}.edited_at is not null then ${milliseconds(`${details}.edited_at`)} end as edited_ms,
  ${details}.reply_id, ${details}.reply_user_id, ${details}.reply_nickname, ${details}.reply_text,
  case when octet_length(${message}.text) <= ${MAX_TEXT_BYTES} then ${message}.text
    else left(${message}.text, ${CUT_TEXT_LENGTH}) || '…' end as text`

// A later version of Django adds a column `deleted_at`; messages that have it set are deleted. Without the
// column, the name resolves to `absent` in the outer query, so a statement does not change when the column
// appears.
const ABSENT = '(select null::timestamptz as deleted_at) absent'
const IS_VISIBLE = `deleted_at is null and ${isExact('id')} and ${isExact('user_id')}`

/**
 * The messages that readers may see, as a FROM item named `message`. Another program's table may allow a null
 * as a text.
 */
export const visibleMessages = (conditions = '') => `${ABSENT} cross join lateral (
  select id, user_id, coalesce(text, '') as text, created_at from chat_message
  where ${IS_VISIBLE} ${conditions}
) message`

/**
 * Joins what a message has besides Django's columns, as a FROM item named `details`. The excerpt of the
 * message that it replies to is read from that message, so it is never stale.
 * @param message the alias of the message
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

/** What a reply shows of the message that it replies to. @param text the text, or its beginning */
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

/** Converts a row. Absent properties are left out, not undefined. */
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

/** Messages ascending by id, and the position of the event log in the same snapshot. */
export interface Snapshot {
  messages: Message[]
  cursor: number
  /** Whether messages were left out because the texts are too long together. */
  isCut: boolean
  /** Whether the server is read-only, so that another one may have newer messages. */
  isReadOnly?: boolean
}

/**
 * How many bytes of text a page may have, unless a single message has more. Enough for any 200 messages that
 * were posted here.
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

// At least one row, so that an empty page has a cursor too.
const page = (conditions: string, order: 'asc' | 'desc', limit: string, maxBytes: string) => `
  select cursor.seq as cursor, ${IS_READ_ONLY} as is_read_only, page.*
  from (select max(seq) as seq from chat_event) cursor
  left join lateral (${readableMessages({ conditions, order, limit, maxBytes })}) page on true
  order by page.id`

const NEWEST = page('', 'desc', '$1', '$2')
const AFTER = page('and id > $1', 'asc', '$2', '$3')
const BEFORE = page('and id < $1', 'desc', '$2', '$3')

/**
 * Reads one page. If its texts are too long together, it is cut to the messages nearest to the cursor, or to
 * the present. Each kind of page has its own statement: for a single one, PostgreSQL would choose a plan that
 * suits the worst case.
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

/** Reads the newest messages: at most `count`, with at most `maxBytes` of text. */
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

/** Finds one message; undefined if there is none with this id. */
export async function findMessage(query: Query, id: number): Promise<Message | undefined> {
  const [row] = await query<MessageRow>(FIND, [id])
  return row && toMessage(row)
}

/**
 * SQL condition for the target of an UPDATE: it is a visible message that meets some conditions. PostgreSQL
 * checks it again if another transaction changed the row while the statement waited for it. A subquery that
 * reads the table would still find the old row:
 * https://www.postgresql.org/docs/current/transaction-iso.html#XACT-READ-COMMITTED
 * @param message the alias of the target
 */
const isVisible = (message: string, conditions: string) => `exists (
  select from ${ABSENT} cross join lateral (
    select from (select ${message}.*) target where ${IS_VISIBLE} ${conditions}
  ) visible
)`

const EDIT = `
  with author as materialized (
    select * from chat_admit(array[$2::bigint], false)
  ), edited as (
    update chat_message message set text = $3 from author
    where author.refusal is null and message.id = $1 and ${isVisible('message', 'and user_id = $2')}
    returning message.id
  )
  select edited.id, ${refusalColumns('author')} from author left join edited on true`

/**
 * Changes the text of one of the user's own messages.
 * @returns the new message; undefined if the user has no message with this id
 * @throws {Muted | ReadOnly | SessionNotFound}
 */
export async function editMessage(
  pipeline: Pipeline,
  id: number,
  userId: number,
  text: string
): Promise<Message | undefined> {
  // A trigger stores the time of the edit after the first statement has returned its row, so read it
  // afterwards.
  const [[edited], found] = await pipeline<{ id: number | null } & (Refusal | { refusal: null }), MessageRow>(
    [EDIT, [id, userId, text]],
    [FIND, [id]]
  )
  if (edited !== undefined && edited.refusal !== null) throw toError(edited)
  if (found.status === 'rejected') throw new DatabaseUnavailable({ cause: found.reason })
  const [row] = found.value
  return edited?.id != null && row ? toMessage(row) : undefined
}

const HAS_DELETED_AT = `exists (
  select from pg_catalog.pg_attribute
  where attrelid = 'chat_message'::regclass and attname = 'deleted_at' and not attisdropped)`

// Users who are not banned may delete their own messages and, if $3 is true, those that their role lets them
// moderate. `chat_admit` and `chat_may_delete` look at bans and roles after the statement has waited for the
// lock. A function that is called only for messages of others records them in the moderation log.
const AUTHOR = 'author as materialized (select * from chat_admit(array[$2::bigint], false))'
const MAY_DELETE = `author.refusal is distinct from 'banned'
  and (message.user_id = $2 or ($3::boolean and chat_may_delete($2, message.user_id)))`
const NOTED = 'case when deleted.user_id <> $2 then chat_log_deletion($2, deleted.user_id, deleted.id) end'

const DELETE = `
  with ${AUTHOR}, deleted as (
    delete from chat_message message using author
    where message.id = $1 and ${isExact('message.id')} and ${MAY_DELETE} and not ${HAS_DELETED_AT}
    returning message.id, message.user_id
  )
  select ${HAS_DELETED_AT} as "isHiding", deleted.id is not null as "isDeleted", ${NOTED} as noted
  from (select) one left join deleted on true`

const HIDE = `
  with ${AUTHOR}, deleted as (
    update chat_message message set deleted_at = now() from author
    where message.id = $1 and ${isExact('message.id')} and ${MAY_DELETE} and message.deleted_at is null
    returning message.id, message.user_id
  )
  select ${NOTED} from deleted`

/**
 * Deletes one of the user's own messages or, for a moderator, somebody else's, which is recorded in the
 * moderation log. If there is a column `deleted_at`, it sets that, so that Django can restore the message.
 * @param canModerate false to delete only the user's own messages, whatever the user's role
 * @returns whether the message existed and the user was allowed to delete it
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

// Messages that someone has given to another user, or deleted, while the statement waited stay as they are.
// `is true` keeps PostgreSQL from reading all messages of the user for each batch.
const DELETE_OF = `
  delete from chat_message
  where id = any (array(select id from chat_message where user_id = $1 limit $2)) and (user_id = $1) is true
  returning id`
const HIDE_OF = `
  update chat_message set deleted_at = now()
  where id = any (array(select id from chat_message where user_id = $1 and deleted_at is null limit $2))
    and (user_id = $1) is true and deleted_at is null
  returning id`

/** Deletes up to `count` messages of a user, in the same way. @returns their ids */
export async function deleteMessagesOf(query: Query, userId: number, count: number): Promise<number[]> {
  const [found] = await query<{ isHiding: boolean }>(`select ${HAS_DELETED_AT} as "isHiding"`, [])
  const rows = await query<{ id: number }>(found?.isHiding ? HIDE_OF : DELETE_OF, [userId, count])
  return rows.map(({ id }) => id)
}

/** Whether readers can see a message with this id. */
export const hasMessage = async (query: Query, id: number): Promise<boolean> =>
  (await query(`select from ${visibleMessages('and id = $1')}`, [id])).length > 0
