import { EventEmitter } from 'node:events'
import fastJson from 'fast-json-stringify'
import { events } from '../../schemas/events.ts'
import { MAX_PAGE, Message, type ListMessagesQuery } from '../../schemas/messages.ts'
import type { LogEntry } from './event-log.ts'
import { MAX_PAGE_BYTES, type Snapshot } from './messages.ts'
import { RecentEvents } from './recent-events.ts'
import { Replies } from './replies.ts'
import { Tail } from './tail.ts'

/** How many messages are kept in memory. */
export const TAIL_LENGTH = 1000
/**
 * How many bytes of messages, unless the newest alone is larger. Enough for `TAIL_LENGTH` messages that were
 * posted here.
 */
export const TAIL_BYTES = 16 * 1024 * 1024
// The log is read at least once a second.
const FRESH_SECONDS = 2.5

// Compiled like the serialisers of the routes.
const messageJson = fastJson(Message)
const eventJson = {
  message_created: fastJson(events.message_created),
  message_updated: fastJson(events.message_updated),
  message_deleted: fastJson(events.message_deleted),
  room_updated: fastJson(events.room_updated),
  reset: fastJson(events.reset)
}

/** Some SSE readers split lines at these characters, so they are escaped, as JSON allows. */
const LINE_SEPARATORS = /[\u0085\u2028\u2029]/g
const escape = (separator: string) => `\\u${separator.charCodeAt(0).toString(16).padStart(4, '0')}`
const frame = (seq: number, json: string) =>
  Buffer.from(`id: ${seq}\ndata: ${json.replace(LINE_SEPARATORS, escape)}\n\n`)

/**
 * Serialises an event for streams. Undefined if its message has been deleted since: that event follows.
 */
export function toFrame({ seq, kind, id, message, room }: LogEntry): Buffer | undefined {
  if (kind === 'reset') return frame(seq, eventJson.reset({ type: kind }))
  if (kind === 'room_updated') return room && frame(seq, eventJson.room_updated({ type: kind, room }))
  if (kind === 'message_deleted') return frame(seq, eventJson.message_deleted({ type: kind, id }))
  return message && frame(seq, eventJson[kind]({ type: kind, message }))
}

/**
 * One page as JSON, with the position of the log at that moment. `age`, in seconds, is set if it may be
 * stale.
 */
export interface Page {
  json: Buffer | string
  isEmpty: boolean
  cursor: number
  age?: number
}

/** One message as JSON, undefined if it does not exist. `age` as in `Page`. */
export interface OneMessage {
  json: Buffer | string | undefined
  age?: number
}

/** The result of applying entries of the log. */
export type Applied = 'applied' | 'gap' | 'reset'

export const toOneMessage = (message: Message | undefined): OneMessage => ({
  json: message && messageJson(message)
})

function toTail(messages: Snapshot['messages']): Tail {
  const tail = new Tail()
  for (const message of messages) tail.put(message.id, messageJson(message))
  return tail
}

export const toPage = ({ messages, cursor }: Snapshot): Page => ({
  json: toTail(messages).page(0, messages.length),
  isEmpty: messages.length === 0,
  cursor
})

/** The id from which on these are all messages that there are. */
function floorOf({ messages, isCut }: Snapshot): number {
  const isAll = messages.length < TAIL_LENGTH && !isCut
  return isAll ? -Infinity : (messages[0]?.id ?? -Infinity)
}

/**
 * The tail of the event log in memory: the newest messages and events, each serialised once. Emits `frames`
 * (new events, serialised) and `messages` (there are new messages).
 */
export class Timeline extends EventEmitter<{ frames: [Buffer[]]; messages: [] }> {
  /** The last entry that was applied; 0 before the first load. */
  seq = 0
  #mark: string | undefined // of that entry, if it is known
  /** The newest events. */
  readonly recent = new RecentEvents()
  #tail = new Tail()
  #replies = new Replies() // those in the tail
  #floor = Infinity // All messages from this id on are in the tail.
  #hasLost = false // messages since they were last read
  #isFollowed = false
  #freshAt = performance.now()

  /** Seconds since the timeline was last known to be complete, or else since the service started. */
  get lag(): number {
    return (performance.now() - this.#freshAt) / 1000
  }

  /** The same in whole seconds, as the header `Age` has it. */
  get age(): number {
    return Math.floor(this.lag)
  }

  /** Whether the timeline is complete, but for changes of the last moment. */
  get isFresh(): boolean {
    return this.#isFollowed && this.lag < FRESH_SECONDS
  }

  /** Marks the timeline as complete: everything in the log has been applied. */
  markFresh(): void {
    this.#isFollowed = true
    this.#freshAt = performance.now()
  }

  /** Marks the timeline as possibly stale, until `markFresh` is called. */
  markStale(): void {
    this.#isFollowed = false
  }

  /** The id of the newest message; -Infinity where there is none. */
  get newestId(): number {
    return this.#tail.ids.at(-1) ?? -Infinity
  }

  /**
   * Starts over from the newest `TAIL_LENGTH` messages: at the start, and after a gap in the log.
   */
  load(newest: Snapshot): void {
    const { messages, cursor } = newest
    this.#tail = toTail(messages)
    this.#replies = new Replies()
    for (const message of messages) this.#replies.put(message)
    this.#floor = floorOf(newest)
    this.#hasLost = false
    this.seq = cursor
    this.#mark = undefined
    this.recent.clear(cursor)
    this.emit('frames', [this.resetFrame])
    this.emit('messages')
  }

  /** Whether so many messages were deleted that those in memory no longer make a page. */
  get isShort(): boolean {
    return this.#hasLost && this.#floor > -Infinity && !this.#isPage(0, this.#tail.ids.length, MAX_PAGE)
  }

  /**
   * Adds older messages where those in memory no longer make a page. Readers notice nothing of it. Does
   * nothing if the timeline is ahead of these messages, because some may have been deleted since.
   */
  fill(newest: Snapshot): void {
    if (this.seq > newest.cursor) return
    const { ids } = this.#tail
    const older = newest.messages.filter(({ id }) => ids[0] === undefined || id < ids[0])
    const tail = toTail(older)
    for (const id of ids) tail.put(id, String(this.#tail.find(id)))
    for (const message of older) this.#replies.put(message)
    this.#tail = tail
    this.#floor = Math.min(this.#floor, floorOf(newest))
    this.#hasLost = false
  }

  get resetFrame(): Buffer {
    return frame(this.seq, eventJson.reset({ type: 'reset' }))
  }

  /** The mark of the last entry that was applied, if it is known. */
  get mark(): string | undefined {
    return this.#mark
  }

  /** Keeps the mark of the entry `seq`, if that is the last one and has no mark yet. */
  learnMark(seq: number, mark: string): void {
    if (seq === this.seq) this.#mark ??= mark
  }

  /**
   * Whether these entries, of which the first must be `from`, continue from the last entry that was applied,
   * or were all applied before.
   */
  #connects(from: number, entries: LogEntry[]): boolean {
    if (from > this.seq || entries[0]?.seq !== from) return false
    if ((entries.at(-1)?.seq ?? 0) < this.seq) return true
    const own = entries.find(({ seq }) => seq === this.seq)
    if (own === undefined) return false
    return own.mark === undefined || this.#mark === undefined || own.mark === this.#mark
  }

  /**
   * Applies entries that were read from the log, starting with the entry `from`. Entries that were applied
   * before are skipped.
   * @returns `gap` if they do not continue from the last one, `reset` if one of them is a reset, where it
   * stops. Call `load` after either
   */
  apply(from: number, entries: LogEntry[]): Applied {
    if (!this.#connects(from, entries)) return 'gap'
    const frames: Buffer[] = []
    let isReset = false
    let hasMessages = false
    try {
      for (const entry of entries) {
        if (entry.mark !== undefined) this.learnMark(entry.seq, entry.mark)
        if (entry.seq <= this.seq) continue
        isReset = entry.kind === 'reset'
        if (isReset) break
        const bytes = toFrame(entry)
        this.#applyToTail(entry)
        hasMessages ||= entry.kind === 'message_created'
        this.seq = entry.seq
        this.#mark = entry.mark
        if (bytes) {
          this.recent.push(entry.seq, bytes)
          frames.push(bytes)
        }
      }
    } finally {
      // After an error, too, readers must get what was applied before it.
      this.#forget()
      if (frames.length > 0) this.emit('frames', frames)
      if (hasMessages) this.emit('messages')
    }
    return isReset ? 'reset' : 'applied'
  }

  #applyToTail({ kind, id, message }: LogEntry): void {
    const isDeleted = kind === 'message_deleted'
    if (!isDeleted && message === undefined) return
    if (id >= this.#floor) {
      if (message) this.#tail.put(id, messageJson(message))
      else this.#tail.remove(id)
      this.#replies.remove(id)
      if (message) this.#replies.put(message)
      else this.#hasLost = true
    }
    // Even if the message is older than the tail, because its replies may be in it.
    for (const reply of this.#replies.tell(id, message)) this.#tail.put(reply.id, messageJson(reply))
  }

  // Trim only when there is a quarter too much, so that not every message moves all others.
  #forget(): void {
    if (this.#tail.ids.length > TAIL_LENGTH * 1.25 || this.#tail.bytes > TAIL_BYTES * 1.25) {
      this.#tail.trim(TAIL_LENGTH, TAIL_BYTES)
      this.#floor = this.#tail.ids[0] ?? this.#floor
      this.#replies.forgetBefore(this.#floor)
    }
  }

  /**
   * Returns a page; undefined if a part of it is older than the tail. If its texts are too long together, the
   * page is cut to the messages nearest to the cursor, or to the present.
   */
  page({ limit, after_id: after, before_id: before = Infinity }: ListMessagesQuery): Page | undefined {
    const size = Math.min(limit, MAX_PAGE)
    let from: number
    let to: number
    if (after !== undefined) {
      if (after + 1 < this.#floor) return undefined
      from = this.#tail.indexAfter(after)
      to = Math.min(from + size, this.#tail.ids.length)
    } else {
      to = this.#tail.indexAfter(before - 1)
      from = Math.max(0, to - size)
    }
    if (after === undefined && this.#floor > -Infinity && !this.#isPage(from, to, size)) return undefined
    const [first, last] = this.#tail.within(MAX_PAGE_BYTES, from, to, after !== undefined)
    return {
      json: this.#tail.page(first, last),
      isEmpty: first >= last,
      cursor: this.seq,
      ...this.#age()
    }
  }

  /** Whether a range has `size` messages, or as much text as a page can have. */
  #isPage(from: number, to: number, size: number): boolean {
    return to - from >= size || this.#tail.bytesOf(from, to) > MAX_PAGE_BYTES
  }

  /** Returns a message; undefined if it may exist but is not in memory. */
  message(id: number): OneMessage | undefined {
    const json = this.#tail.find(id)
    const age = this.#age()
    const isUnknown = json === undefined && (id < this.#floor || age.age !== undefined)
    return isUnknown ? undefined : { json, ...age }
  }

  /**
   * Whether a read of this message would be answered from memory with anything but `message` (undefined: it
   * does not exist). False if the answer would come from PostgreSQL.
   */
  contradicts(id: number, message: Message | undefined): boolean {
    const known = this.message(id)
    if (known === undefined || known.age !== undefined) return false
    return known.json?.toString() !== (message && messageJson(message))
  }

  #age(): { age?: number } {
    return this.isFresh ? {} : { age: this.age }
  }
}
