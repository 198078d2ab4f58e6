import { DatabaseError } from 'pg'
import type { Message } from '../../schemas/messages.ts'
import type { Pipeline, Query } from '../database/query.ts'
import {
  Busy,
  DatabaseUnavailable,
  IdempotencyKeyReused,
  ReplyToNotFound,
  UserNotFound
} from '../errors/catalogue.ts'
import { requireMember } from '../moderation/members.ts'
import { type Refusal, toError } from '../moderation/refusals.ts'
import { channels, traced } from '../telemetry/tracing.ts'
import { confirmChange } from './confirm-change.ts'
import type { Follower } from './follower.ts'
import type { LogWatch } from './log-watch.ts'
import { listLogFrom, type LogEntry, type LogPage, type LogRow, readLogFrom, toLogPage } from './event-log.ts'
import { findMessage, type MessageRow, toMessage } from './messages.ts'
import { FIND_CLAIMED, POST_MANY, POST_ONE, RELEASE_KEY } from './post-statements.ts'
import type { Timeline } from './timeline.ts'
import { Turns } from './turns.ts'

/**
 * How many posts may be under way: looking for what they reply to, queued, in a batch, or not in the Timeline
 * yet.
 */
const MAX_UNSETTLED = 2000
const MAX_BATCH = 200
const MAX_ATTEMPTS = 3

/** A message to be posted. */
export interface NewMessage {
  userId: number
  text: string
  /** The idempotency key: the same user, key, text and `replyTo` always give the same message. */
  key?: string | null | undefined
  /** The id of the message that it replies to. */
  replyTo?: number | null | undefined
}

/** The stored message, and whether an earlier request with the same key stored it. */
export interface Posted {
  message: Message
  isReplay: boolean
}

interface Draft {
  userId: number
  text: string
  key: string | null
  replyTo: number | null
}

/** A draft in the queue, or in the batch that is being written. */
interface Post extends Draft {
  /** The message that it replies to. */
  replied: Message | null
  resolve: (posted: Posted | Promise<Posted>) => void
  reject: (error: unknown) => void
}

/** A batch that was written. */
interface Written {
  outcomes: Outcome[]
  /** The messages by their ids. */
  stored: Map<number, Message>
  /** The log as it was then, with these messages; undefined if it could not be read. */
  page: LogPage | undefined
}

/** What the insert says of the n-th post of a batch. */
type Outcome = { n: number } & (Inserted | Refusal)
type Inserted = Pick<MessageRow, 'id' | 'nickname' | 'text' | 'created_ms'> & { refusal: null }

/** The message that the key of the n-th post stored before, and whether that post is the same. */
type Claimed = MessageRow & { n: number; is_same: boolean }

const columns = (posts: Draft[]) => [
  posts.map(({ userId }) => userId),
  posts.map(({ text }) => text),
  posts.map(({ key }) => key),
  posts.map(({ replyTo }) => replyTo)
]

const toStored = ({ userId, replyTo, replied }: Post, inserted: Inserted): Message =>
  toMessage({
    ...inserted,
    user_id: userId,
    edited_ms: null,
    reply_id: replyTo,
    reply_user_id: replied?.userId ?? null,
    reply_nickname: replied?.nickname ?? null,
    reply_text: replied?.text ?? null
  })

const hasReplies = (posts: Draft[]) => posts.some(({ replyTo }) => replyTo !== null)

/** Whether an entry cannot be applied without its message. */
const lacksMessage = ({ kind, message }: LogEntry) =>
  message === undefined && (kind === 'message_created' || kind === 'message_updated')

/** @param log what the log had after the batch */
function toWritten(posts: Post[], outcomes: Outcome[], log: PromiseSettledResult<LogRow[]>): Written {
  const stored = new Map<number, Message>()
  for (const outcome of outcomes) {
    const post = posts[outcome.n - 1]
    if (post && outcome.refusal === null) stored.set(outcome.id, toStored(post, outcome))
  }
  return { outcomes, stored, page: log.status === 'fulfilled' ? withMessages(log.value, stored) : undefined }
}

function withMessages(log: LogRow[], stored: Map<number, Message>): LogPage | undefined {
  try {
    const { entries, hasNext } = toLogPage(log)
    for (const entry of entries) {
      if (entry.kind === 'message_created') entry.message ??= stored.get(entry.id)
    }
    return { entries, hasNext }
  } catch {
    return undefined // The follower reads the same entries and reports the problem.
  }
}

const rejectAll = (posts: Iterable<Post>, error: unknown) => {
  for (const { reject } of posts) reject(error)
}

/** Whether this is an error of PostgreSQL, and its SQLSTATE begins with `code`. */
const hasCode = (error: unknown, code: string): error is DatabaseError =>
  error instanceof DatabaseError && (error.code ?? '').startsWith(code)

const isDeadlockOrSerializationFailure = (error: unknown) => hasCode(error, '40')
/** Whether a right is missing. A policy of the database may refuse a single row in this way. */
const isRefusal = (error: unknown) => error instanceof DatabaseUnavailable && hasCode(error.cause, '42501')
const isDuplicate = (error: unknown) => hasCode(error, '23505')
const isDuplicateOfSequence = (error: unknown) =>
  hasCode(error, '23505') && error.table !== 'chat_message_key'
/** Whether PostgreSQL has not stored all messages of a batch as they can be shown. */
const isDiscarded = (error: unknown) => hasCode(error, '23502') && error.table === 'chat_message_detail'
const isUserGone = (error: unknown) => hasCode(error, '23503') // a foreign key violation

/** The error for a post that PostgreSQL refuses, also alone. */
function reasonOfOne(error: unknown): unknown {
  if (isUserGone(error)) return new UserNotFound()
  if (!isDiscarded(error)) return error
  return new Error('a trigger discarded the message, or its id is 2^53 or more', { cause: error })
}

/**
 * Writes messages, one batch at a time. Posts that arrive while a batch is being written, or while it is the
 * turn of other replicas, form the next one, so one commit serves many. Batches are applied to the Timeline,
 * and thereby announced, as a whole and in their order. A batch whose result was lost may have been written,
 * so it is never retried.
 */
export class MessageWriter {
  #pipeline: Pipeline
  #query: Query
  #timeline: Timeline
  #follower: Follower
  #watch: LogWatch
  /** Decides when this replica may write, if others write as well. */
  readonly turns = new Turns()
  #queue: Post[] = []
  #unsettled = 0
  #isWriting = false
  /** Resolves when all batches that were written are in the Timeline. */
  #applied = Promise.resolve()
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
  async post(message: NewMessage): Promise<Posted> {
    if (this.#unsettled >= MAX_UNSETTLED) throw new Busy()
    this.#unsettled++
    return this.#post(message).finally(() => this.#unsettled--)
  }

  async #post({ userId, text, key = null, replyTo = null }: NewMessage): Promise<Posted> {
    const draft = { userId, text, key, replyTo }
    if (replyTo === null) return this.#enqueue(draft, null)
    // If that message is deleted meanwhile, this becomes a reply to a deleted message, like any older one.
    const replied = await findMessage(this.#query, replyTo)
    if (replied) return this.#enqueue(draft, replied)
    // It may have existed when the message with this key was posted.
    const [claimed] = await this.#findClaimed([draft])
    if (claimed) return this.#replay(claimed)
    await requireMember(this.#query, userId)
    throw new ReplyToNotFound()
  }

  #enqueue(draft: Draft, replied: Message | null): Promise<Posted> {
    return new Promise((resolve, reject) => {
      const post = { ...draft, replied, resolve, reject }
      channels.waiting.publish(post)
      this.#queue.push(post)
      if (!this.#isWriting) void this.#drain()
    })
  }

  async #drain(): Promise<void> {
    this.#isWriting = true
    while (this.#queue.length > 0) {
      if (this.#queue.length < MAX_BATCH) await this.turns.next()
      const posts = this.#queue.splice(0, MAX_BATCH)
      this.onBatch(posts.length)
      await traced(channels.batch, { posts }, () => this.#write(posts))
    }
    this.#isWriting = false
  }

  /** Writes a batch. Each of its posts is settled once the batch is in the Timeline. Never throws. */
  async #write(posts: Post[], attempt = 1): Promise<void> {
    const from = this.#timeline.seq
    const startedAt = performance.now()
    const resume = this.#follower.spare()
    let result: [Outcome[], PromiseSettledResult<LogRow[]>]
    try {
      result = await this.#insert(posts, from)
    } catch (error) {
      resume()
      return this.#recover(posts, error, attempt)
    }
    const written = toWritten(posts, ...result)
    this.#publish(written)
    this.turns.ended(performance.now() - startedAt)
    // The next batch does not wait for it.
    this.#applied = this.#applied.then(async () => {
      await this.#apply(from, written)
      resume()
      this.#settle(posts, written)
    })
  }

  /** Inserts a batch, and reads the log from the entry `from` on in the same round trip. */
  #insert(posts: Post[], from: number): Promise<[Outcome[], PromiseSettledResult<LogRow[]>]> {
    const [first] = posts
    return this.#pipeline<Outcome, LogRow>(
      first && posts.length === 1
        ? [POST_ONE, [first.userId, first.text, first.key, first.replyTo]]
        : [POST_MANY, columns(posts)],
      // What a reply shows of another message is read with it, because that may just have changed.
      hasReplies(posts) ? readLogFrom(from) : listLogFrom(from)
    )
  }

  /** Tells other replicas what this one has written, even if it does not know yet what comes before. */
  #publish({ page, stored }: Written): void {
    const entries = page?.entries ?? []
    const isOwn = ({ kind, id }: LogEntry) => kind === 'message_created' && stored.has(id)
    const first = entries.findIndex(isOwn)
    if (first > 0) this.#follower.publish(entries.slice(first - 1, entries.findLastIndex(isOwn) + 1))
  }

  /** Brings the Timeline up to date after a batch. Never throws, because the posts are already stored. */
  async #apply(from: number, { page, stored }: Written): Promise<void> {
    const isApplied = page !== undefined && (await this.#hasAll(page)) && this.#take(from, page)
    if (isApplied) return this.#checkLogged(page.entries, stored)
    await this.#follower.caughtUp()
    for (const message of stored.values()) {
      if (this.#timeline.contradicts(message.id, message)) await this.#confirm(message)
    }
  }

  /** Waits a moment for what others wrote just before, and publish themselves. */
  async #hasAll({ entries }: LogPage): Promise<boolean> {
    const foreign = entries.findLast(lacksMessage)
    return foreign === undefined || this.#follower.reaches(foreign.seq)
  }

  #take(from: number, { entries, hasNext }: LogPage): boolean {
    try {
      return this.#follower.apply(from, entries) === 'applied' && !hasNext
    } catch {
      return false // The follower reads the same entries and reports the problem.
    }
  }

  /** Reports stored messages that are missing from the log. */
  #checkLogged(entries: LogEntry[], stored: Map<number, Message>): void {
    const logged = new Set(entries.map(({ id }) => id))
    const missed = [...stored.keys()].filter((id) => !logged.has(id))
    if (missed.length > 0) this.#watch.missed(missed)
  }

  /** Settles a batch that was written. */
  #settle(posts: Post[], { outcomes, stored }: Written): void {
    const outcomeOf = new Map(outcomes.map((outcome) => [outcome.n, outcome]))
    const refused = new Map<Post, Error>()
    for (const [i, post] of posts.entries()) {
      const outcome = outcomeOf.get(i + 1)
      const message = outcome?.refusal === null ? stored.get(outcome.id) : undefined
      if (message) post.resolve({ message, isReplay: false })
      else if (outcome && outcome.refusal !== null) refused.set(post, toError(outcome))
      else post.reject(new UserNotFound())
    }
    if (refused.size > 0) void this.#refuse(refused) // The next batch does not wait for it.
  }

  /** Rejects refused posts, unless their key shows that they were accepted before. Never throws. */
  async #refuse(refused: Map<Post, Error>): Promise<void> {
    const posts = [...refused.keys()]
    const keyed = posts.filter(({ key }) => key !== null)
    try {
      const unclaimed = keyed.length > 0 ? await this.#replayClaimed(keyed) : []
      for (const post of unclaimed) post.reject(refused.get(post))
    } catch (outage) {
      rejectAll(keyed, outage)
    }
    for (const post of posts.filter(({ key }) => key === null)) post.reject(refused.get(post))
  }

  /** Settles a batch whose insert failed. Never throws. */
  async #recover(posts: Post[], error: unknown, attempt: number): Promise<void> {
    if (error instanceof DatabaseUnavailable && !isRefusal(error)) {
      // The batch may have been written, so it is not retried. Queued posts would hit the same outage.
      rejectAll([...posts, ...this.#queue.splice(0)], error)
      return
    }
    try {
      if (attempt < MAX_ATTEMPTS && (await this.#isWorthRetrying(error))) {
        await this.#write(posts, attempt + 1)
        return
      }
      // One of the posts made the whole batch fail.
      const unclaimed = await this.#replayClaimed(posts)
      if (posts.length > 1) await this.#writeHalves(unclaimed)
      else if (unclaimed[0]) await this.#recoverOne(unclaimed[0], error, attempt)
    } catch (outage) {
      rejectAll(posts, outage) // those that are not settled
    }
  }

  async #isWorthRetrying(error: unknown): Promise<boolean> {
    if (isDeadlockOrSerializationFailure(error)) return true
    return isDuplicateOfSequence(error) && this.#watch.repairSequences()
  }

  async #writeHalves(posts: Post[]): Promise<void> {
    const half = Math.ceil(posts.length / 2)
    for (const part of [posts.slice(0, half), posts.slice(half)]) {
      if (part.length > 0) await this.#write(part)
    }
  }

  async #recoverOne(post: Post, error: unknown, attempt: number): Promise<void> {
    if (isDuplicate(error) && attempt < MAX_ATTEMPTS) {
      // The message with this key was deleted meanwhile, or its key was left behind.
      await this.#query(RELEASE_KEY, [post.userId, post.key]).catch(() => {})
      await this.#write([post], attempt + 1)
    } else {
      post.reject(reasonOfOne(error))
    }
  }

  /**
   * Resolves the posts whose key was claimed before with their message.
   * @returns the others
   * @throws {DatabaseUnavailable}
   */
  async #replayClaimed(posts: Post[]): Promise<Post[]> {
    const unclaimed = new Set(posts)
    for (const claimed of await this.#findClaimed(posts)) {
      const post = posts[claimed.n - 1]
      if (!post) continue
      unclaimed.delete(post)
      post.resolve(this.#replay(claimed)) // Other posts do not wait for the log.
    }
    return [...unclaimed]
  }

  /** @returns nothing if one of the posts makes the look-up fail @throws {DatabaseUnavailable} */
  async #findClaimed(posts: Draft[]): Promise<Claimed[]> {
    try {
      return await this.#query<Claimed>(FIND_CLAIMED, columns(posts))
    } catch (error) {
      if (error instanceof DatabaseUnavailable) throw error
      return []
    }
  }

  /** @throws {IdempotencyKeyReused} */
  async #replay(claimed: Claimed): Promise<Posted> {
    if (!claimed.is_same) throw new IdempotencyKeyReused()
    const message = toMessage(claimed)
    await this.#confirm(message) // Another replica may have just written it.
    return { message, isReplay: true }
  }

  /** Resolves when a stored message is in the Timeline, or is reported as missing from the log. */
  #confirm(message: Message): Promise<void> {
    const room = { follower: this.#follower, timeline: this.#timeline, watch: this.#watch }
    return confirmChange(room, this.#query, [message.id], message)
  }
}
