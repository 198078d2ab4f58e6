import { DatabaseError } from 'pg'
import type { Message } from '../../schemas/messages.ts'
import { milliseconds, type Pipeline, type Query } from '../database/query.ts'
import {
  Busy,
  DatabaseUnavailable,
  IdempotencyKeyReused,
  ReplyToNotFound,
  UserNotFound
} from '../errors/catalogue.ts'
import { type Refusal, refusalColumns, toError } from '../moderation/refusals.ts'
import { channels, traced } from '../telemetry/tracing.ts'
import type { Follower } from './follower.ts'
import type { LogWatch } from './log-watch.ts'
import { LOG_PAGE_BYTES, type LogEntry, type LogRow, READ_LOG, toLogPage } from './event-log.ts'
import {
  findMessage,
  joinDetails,
  messageColumns,
  type MessageDetails,
  type MessageRow,
  toMessage,
  visibleMessages
} from './messages.ts'
import type { Timeline } from './timeline.ts'

const MAX_QUEUE = 2000
const MAX_BATCH = 200
const MAX_TRIES = 3

/** SQL for a digest that tells whether a key is reused for the same message. Texts contain no NUL. */
const digest = (text: string, replyTo: string) => `sha256(
  convert_to(${text}, 'UTF8') || coalesce('\\x00'::bytea || convert_to(${replyTo}::text, 'UTF8'), ''))`

// `chat_admit` takes the lock that orders the ids, finds the authors, and decides which posts are accepted.
//
// clock_timestamp: the times of the messages ascend as their ids do, because it is read under that lock.
const POST_ONE = `
  with author as materialized (
    select * from chat_admit(array[$1::bigint], true)
  ), message as (
    insert into chat_message (user_id, text, created_at)
    select user_id, $2, clock_timestamp() from author where refusal is null returning id, created_at
  ), claimed as (
    insert into chat_message_key (user_id, key, message_id, digest)
    select $1, $3::text, id, ${digest('$2', '$4::bigint')} from message where $3::text is not null
  ), replying as (
    insert into chat_message_detail (message_id, reply_to) select id, $4::bigint from message where $4::bigint is not null
  )
  select author.n, message.id, author.nickname, ${milliseconds('message.created_at')} as created_ms, ${refusalColumns('author')}
  from author left join message on true`

// Ids are assigned in the order of the rows, so the n-th smallest id belongs to the n-th accepted row. They
// are matched as arrays, because only nested-loop joins are on (src/plugins/postgres.ts), which would compare
// all pairs.
const POST_MANY = `
  with author as materialized (
    select * from chat_admit($1::bigint[], true)
  ), message as (
    insert into chat_message (user_id, text, created_at)
    select user_id, ($2::text[])[n], clock_timestamp() from author where refusal is null order by n
    returning id, created_at
  ), posted as (
    select posted.* from
      (select array_agg(n order by n) as ns, array_agg(nickname order by n) as nicknames from author where refusal is null) accepted,
      (select array_agg(id order by id) as ids, array_agg(created_at order by id) as times from message) message,
      unnest(ns, nicknames, ids, times) as posted (n, nickname, id, created_at)
  ), claimed as (
    insert into chat_message_key (user_id, key, message_id, digest)
    select ($1::bigint[])[n], ($3::text[])[n], id, ${digest('($2::text[])[n]', '($4::bigint[])[n]')} from posted
    where ($3::text[])[n] is not null
  ), replying as (
    insert into chat_message_detail (message_id, reply_to)
    select id, ($4::bigint[])[n] from posted where ($4::bigint[])[n] is not null
  )
  select n, id, nickname, ${milliseconds('created_at')} as created_ms, null as refusal, null as until_ms, null as wait from posted
  union all
  select n, null, nickname, null, ${refusalColumns('author')} from author where refusal is not null`

const FIND_CLAIMED = `
  select given.n, claimed.digest = ${digest('given.text', 'given.reply_to')} as is_same, ${messageColumns()}
  from unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[]) with ordinality as given (user_id, text, key, reply_to, n)
  join chat_message_key claimed on claimed.user_id = given.user_id and claimed.key = given.key
  cross join lateral (select message.* from ${visibleMessages('and id = claimed.message_id')}) message
  join chat_user author on author.id = message.user_id ${joinDetails()}`

// A key without its message claims nothing. It is left behind if the message was deleted while triggers were
// disabled.
const RELEASE_KEY = `
  delete from chat_message_key key where user_id = $1 and key = $2
  and not exists (select from ${visibleMessages('and id = key.message_id')})`

/** The stored message, and whether an earlier request with the same key stored it. */
export interface Posted {
  message: Message
  isReplay: boolean
}

/** The result for the n-th post of a batch. */
type Outcome = { n: number } & (Inserted | Refusal)
type Inserted = Pick<MessageRow, 'id' | 'nickname' | 'created_ms'> & { refusal: null }
/** A message to be posted. */
export interface NewMessage {
  userId: number
  text: string
  /** The idempotency key: the same user, key, text and `replyTo` always give the same message. */
  key?: string | undefined
  /** The id of the message that it replies to. */
  replyTo?: number | null | undefined
}
interface Draft {
  userId: number
  text: string
  key: string | null
  replyTo: number | null
}
interface Post extends Draft {
  /** The message that it replies to. */
  replied: Message | undefined
  resolve: (posted: Posted) => void
  reject: (error: unknown) => void
}

const columns = (posts: Post[]) => [
  posts.map(({ userId }) => userId),
  posts.map(({ text }) => text),
  posts.map(({ key }) => key),
  posts.map(({ replyTo }) => replyTo)
]
const detailsOf = ({ replyTo, replied }: Post): MessageDetails => ({
  edited_ms: null,
  reply_id: replyTo,
  reply_user_id: replied?.userId ?? null,
  reply_nickname: replied?.nickname ?? null,
  reply_text: replied?.text ?? null
})
const codeOf = (error: unknown) => (error instanceof DatabaseError ? error.code : undefined)

// A duplicate id or seq, because a sequence was set back.
const isOfSequence = (error: unknown) =>
  error instanceof DatabaseError && error.code === '23505' && error.table !== 'chat_message_key'

const rejectAll = (posts: Post[], error: unknown) => {
  for (const { reject } of posts) reject(error)
}

/**
 * Writes messages, one batch at a time. Posts that arrive while a batch is being written form the next one,
 * so one commit serves many. A batch whose result was lost may have been written, so it is never retried.
 */
export class MessageWriter {
  #pipeline: Pipeline
  #query: Query
  #timeline: Timeline
  #follower: Follower
  #watch: LogWatch
  #queue: Post[] = []
  #isWriting = false
  /** Called with the size of each batch. */
  onBatch: (size: number) => void = () => {}

  constructor(pipeline: Pipeline, query: Query, timeline: Timeline, follower: Follower, watch: LogWatch) {
    this.#pipeline = pipeline
    this.#query = query
    this.#timeline = timeline
    this.#follower = follower
    this.#watch = watch
  }

  /** How many messages are waiting for the next batch. */
  get queued(): number {
    return this.#queue.length
  }

  /**
   * Posts a message. Resolves when it is stored and in this process's Timeline.
   * @throws {Busy | UserNotFound | ReplyToNotFound | IdempotencyKeyReused | DatabaseUnavailable}
   * @throws {Muted | ReadOnly | SlowMode | SessionNotFound} if the author may not post now
   */
  post({ userId, text, key, replyTo = null }: NewMessage): Promise<Posted> {
    if (this.#queue.length >= MAX_QUEUE) throw new Busy()
    const message = { userId, text, key: key ?? null, replyTo }
    return replyTo === null ? this.#enqueue(message, undefined) : this.#postReply(message, replyTo)
  }

  /**
   * Finds the message to reply to, then posts. If that message is deleted meanwhile, this becomes a reply to
   * a deleted message, like any older reply to it.
   */
  async #postReply(message: Draft, replyTo: number): Promise<Posted> {
    const replied = await findMessage(this.#query, replyTo)
    if (replied) return this.#enqueue(message, replied)
    // It may have existed when the message with this key was posted.
    return new Promise((resolve, reject) => {
      this.#replay([{ ...message, replied, resolve, reject }]).then((rest) => {
        if (rest.length > 0) reject(new ReplyToNotFound())
      }, reject)
    })
  }

  #enqueue(message: Draft, replied: Message | undefined): Promise<Posted> {
    return new Promise((resolve, reject) => {
      const post = { ...message, replied, resolve, reject }
      channels.waiting.publish(post)
      this.#queue.push(post)
      if (!this.#isWriting) void this.#drain()
    })
  }

  async #drain(): Promise<void> {
    this.#isWriting = true
    while (this.#queue.length > 0) {
      const posts = this.#queue.splice(0, MAX_BATCH)
      this.onBatch(posts.length)
      await traced(channels.batch, { posts }, () => this.#write(posts))
    }
    this.#isWriting = false
  }

  /** Writes a batch and settles each of its posts. */
  async #write(posts: Post[], tries = 1): Promise<void> {
    let rows: Outcome[]
    try {
      rows = await this.#follower.spare(() => this.#insert(posts))
    } catch (error) {
      // Queued posts would hit the same outage, so they fail now.
      if (error instanceof DatabaseUnavailable) rejectAll([...posts, ...this.#queue.splice(0)], error)
      // A deadlock or a serialisation failure: nothing was written.
      else if (/^40/.test(codeOf(error) ?? '') && tries < MAX_TRIES) await this.#write(posts, tries + 1)
      else await this.#writeApart(posts, error, tries)
      return
    }
    const outcomes = new Map(rows.map((row) => [row.n, row]))
    const refused = new Map<Post, Refusal>()
    for (const [i, post] of posts.entries()) {
      const row = outcomes.get(i + 1)
      if (row === undefined) {
        post.reject(new UserNotFound())
      } else if (row.refusal !== null) {
        refused.set(post, row)
      } else {
        const message = toMessage({ ...row, ...detailsOf(post), user_id: post.userId, text: post.text })
        post.resolve({ message, isReplay: false })
      }
    }
    if (refused.size > 0) void this.#refuse(refused)
  }

  /**
   * Rejects refused posts, unless their key shows that they were accepted before. Never throws, and the next
   * batch does not wait for it.
   */
  async #refuse(refused: Map<Post, Refusal>): Promise<void> {
    const keyed = [...refused.keys()].filter(({ key }) => key !== null)
    const replayed = new Set(keyed)
    try {
      for (const post of keyed.length > 0 ? await this.#replay(keyed) : []) replayed.delete(post)
    } catch (outage) {
      rejectAll(keyed, outage)
    }
    for (const [post, refusal] of refused) {
      if (!replayed.has(post)) post.reject(toError(refusal))
    }
  }

  async #insert(posts: Post[]): Promise<Outcome[]> {
    const from = this.#timeline.seq
    const [first] = posts
    const [rows, log] = await this.#pipeline<Outcome, LogRow>(
      first && posts.length === 1
        ? [POST_ONE, [first.userId, first.text, first.key, first.replyTo]]
        : [POST_MANY, columns(posts)],
      [READ_LOG, [from, LOG_PAGE_BYTES]]
    )
    if (!log || !this.#take(from, log, rows)) await this.#follower.caughtUp()
    return rows
  }

  /**
   * Applies the log to the Timeline. Never throws, because the posts are already stored.
   * @returns whether the Timeline is up to date
   */
  #take(from: number, log: LogRow[], rows: Outcome[]): boolean {
    try {
      const { entries, hasNext } = toLogPage(log)
      const isRead = this.#timeline.apply(from, entries) && !hasNext
      if (isRead) this.#checkLogged(entries, rows)
      return isRead
    } catch {
      return false // The follower reads the same entries and reports the problem.
    }
  }

  /** Reports stored messages that are missing from the log. */
  #checkLogged(entries: LogEntry[], rows: Outcome[]): void {
    const logged = new Set(entries.map(({ id }) => id))
    const missed = rows
      .flatMap((row) => (row.refusal === null ? [row.id] : []))
      .filter((id) => !logged.has(id))
    if (missed.length > 0) this.#watch.missed(missed)
  }

  /**
   * One post made the whole batch fail. Posts whose key was claimed before get their message; the others are
   * retried in two halves.
   */
  async #writeApart(posts: Post[], error: unknown, tries: number): Promise<void> {
    let rest: Post[]
    try {
      if (isOfSequence(error) && tries < MAX_TRIES && (await this.#watch.repairSequences())) {
        await this.#write(posts, tries + 1)
        return
      }
      rest = await this.#replay(posts)
    } catch (outage) {
      rejectAll(posts, outage)
      return
    }
    const [post] = rest
    if (posts.length > 1) {
      const half = Math.ceil(rest.length / 2)
      for (const part of [rest.slice(0, half), rest.slice(half)]) {
        if (part.length > 0) await this.#write(part)
      }
    } else if (post && codeOf(error) === '23505' && tries < MAX_TRIES) {
      // The message with this key was deleted meanwhile, or its key was left behind.
      await this.#query(RELEASE_KEY, [post.userId, post.key]).catch(() => {})
      await this.#write([post], tries + 1)
    } else {
      // Foreign key violation: the user was deleted meanwhile.
      rejectAll(rest, codeOf(error) === '23503' ? new UserNotFound() : error)
    }
  }

  /**
   * Resolves the posts whose key was claimed before with their message.
   * @returns the others; or all of them, if one of them makes the lookup fail
   * @throws {DatabaseUnavailable}
   */
  async #replay(posts: Post[]): Promise<Post[]> {
    const rows = await this.#query<MessageRow & { n: number; is_same: boolean }>(
      FIND_CLAIMED,
      columns(posts)
    ).catch((error: unknown) => {
      if (error instanceof DatabaseUnavailable) throw error
      return []
    })
    const rest = new Set(posts)
    for (const row of rows) {
      const post = posts[row.n - 1]
      if (!post) continue
      rest.delete(post)
      if (!row.is_same) {
        post.reject(new IdempotencyKeyReused())
        continue
      }
      const posted = { message: toMessage(row), isReplay: true }
      // Another replica may have just written it. Do not make other posts wait for the log.
      void this.#follower.caughtUp().then(() => post.resolve(posted), post.reject)
    }
    return [...rest]
  }
}
