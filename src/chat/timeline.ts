import { EventEmitter, once } from 'node:events'
import fastJson from 'fast-json-stringify'
import { events } from '../../schemas/events.ts'
import { MAX_PAGE, Message, type PageOfMessages } from '../../schemas/messages.ts'
import type { LogEntry } from './log.ts'
import type { Snapshot } from './messages.ts'
import { Tail } from './tail.ts'

// How many messages, and how many events, are at hand without SQL.
export const TAIL_LENGTH = 1000
const FRAMES_LENGTH = 1000
// The log is read at least once a second.
const FRESH_SECONDS = 2.5

// The same compiled serialisers as those of the routes.
const messageJson = fastJson(Message)
const eventJson = {
  message_created: fastJson(events.message_created), message_updated: fastJson(events.message_updated),
  message_deleted: fastJson(events.message_deleted), reset: fastJson(events.reset)
}
const frame = (seq: number, data: string) => Buffer.from(`id: ${seq}\ndata: ${data}\n\n`)

/** One event as a stream gets it, or undefined when its message has been deleted since: that event follows. */
export function toFrame ({ seq, kind, id, message }: LogEntry): Buffer | undefined {
  if (kind === 'reset') return frame(seq, eventJson.reset({ type: kind }))
  if (kind === 'message_deleted') return frame(seq, eventJson.message_deleted({ type: kind, id }))
  return message && frame(seq, eventJson[kind]({ type: kind, message }))
}

/** One page as JSON, and where the log stands at that moment. `age`, in seconds, is there when it may be out of date. */
export interface Page { json: Buffer | string, isEmpty: boolean, cursor: number, age?: number }

function toTail (messages: Snapshot['messages']): Tail {
  const tail = new Tail()
  for (const message of messages) tail.put(message.id, messageJson(message))
  return tail
}

export const toPage = ({ messages, cursor }: Snapshot): Page =>
  ({ json: toTail(messages).page(0, messages.length), isEmpty: messages.length === 0, cursor })

/**
 * The end of the log, as this process has read it: the newest messages, and the newest events, each serialised once.
 * Emits `frames` (the bytes of new events) and `messages` (there are new ones).
 */
export class Timeline extends EventEmitter<{ frames: [Buffer[]], messages: [] }> {
  /** The last entry of the log that is in; 0 before anything is. */
  seq = 0
  #tail = new Tail()
  #floor = Infinity // All messages from this id on are in the tail.
  #frames: { seq: number, bytes: Buffer }[] = []
  #framesAfter = 0 // All events after this one are in the frames.
  #isFollowed = false
  #confirmedAt = -Infinity
  #isClosed = false

  constructor () {
    super()
    this.setMaxListeners(0)
  }

  /** The seconds since nothing could be missing. */
  get lag (): number {
    return (performance.now() - this.#confirmedAt) / 1000
  }

  /** Notes that the log has no more entries than are in. */
  confirm (): void {
    this.#isFollowed = true
    this.#confirmedAt = performance.now()
  }

  /** Notes that nobody knows what else is in the log. */
  doubt (): void {
    this.#isFollowed = false
  }

  /** Lets nobody wait any longer. */
  close (): void {
    this.#isClosed = true
    this.emit('messages')
  }

  /** Starts again from the newest `TAIL_LENGTH` messages: at the start, and where the log cannot tell what happened in between. */
  load ({ messages, cursor }: Snapshot): void {
    this.#tail = toTail(messages)
    this.#floor = messages.length < TAIL_LENGTH ? -Infinity : messages[0]?.id ?? -Infinity
    this.#frames = []
    this.#framesAfter = this.seq = cursor
    this.emit('frames', [this.resetFrame])
    this.emit('messages')
  }

  get resetFrame (): Buffer {
    return frame(this.seq, eventJson.reset({ type: 'reset' }))
  }

  /**
   * Takes in what was read of the log from the entry `from` on, that one included. What is in already is passed over.
   * @returns false when it does not connect to what is in, or says that everything must be loaded again
   */
  apply (from: number, entries: LogEntry[]): boolean {
    if (from > this.seq || entries[0]?.seq !== from) return false
    const frames: Buffer[] = []
    let isReset = false
    let hasMessages = false
    for (const entry of entries) {
      if (entry.seq <= this.seq) continue
      isReset = entry.kind === 'reset'
      if (isReset) break
      this.#applyToTail(entry)
      hasMessages ||= entry.kind === 'message_created'
      this.seq = entry.seq
      const bytes = toFrame(entry)
      if (bytes) {
        this.#frames.push({ seq: entry.seq, bytes })
        frames.push(bytes)
      }
    }
    this.#forget()
    if (frames.length > 0) this.emit('frames', frames)
    if (hasMessages) this.emit('messages')
    return !isReset
  }

  #applyToTail ({ kind, id, message }: LogEntry): void {
    if (id < this.#floor) return
    if (kind === 'message_deleted') this.#tail.remove(id)
    else if (message) this.#tail.put(id, messageJson(message))
  }

  // A quarter more than there is a use for, so that not every message moves all of them.
  #forget (): void {
    if (this.#tail.ids.length > TAIL_LENGTH * 1.25) {
      this.#tail.trim(TAIL_LENGTH)
      this.#floor = this.#tail.ids[0] ?? this.#floor
    }
    if (this.#frames.length > FRAMES_LENGTH * 1.25) {
      const forgotten = this.#frames.splice(0, this.#frames.length - FRAMES_LENGTH)
      this.#framesAfter = forgotten.at(-1)?.seq ?? this.#framesAfter
    }
  }

  /** One page, or undefined when part of it is older than what is at hand. */
  page ({ limit, after_id: after, before_id: before = Infinity }: PageOfMessages): Page | undefined {
    const size = Math.min(limit, MAX_PAGE)
    let from: number
    let to: number
    if (after !== undefined) {
      if (after + 1 < this.#floor) return undefined
      from = this.#tail.indexAfter(after)
      to = Math.min(from + size, this.#tail.ids.length)
    } else {
      to = this.#tail.indexAfter(before - 1)
      if (to < size && this.#floor > -Infinity) return undefined
      from = Math.max(0, to - size)
    }
    const isFresh = this.#isFollowed && this.lag < FRESH_SECONDS
    return { json: this.#tail.page(from, to), isEmpty: from >= to, cursor: this.seq, ...(!isFresh && { age: Math.floor(this.lag) }) }
  }

  /** The events after `seq` in order, or undefined when it is older than what is at hand, or not there yet. */
  framesSince (seq: number): Buffer[] | undefined {
    if (seq < this.#framesAfter || seq > this.seq) return undefined
    let index = this.#frames.length
    while (index > 0 && (this.#frames[index - 1]?.seq ?? 0) > seq) index--
    return this.#frames.slice(index).map(({ bytes }) => bytes)
  }

  /** Resolves when there is a message after `id`, when `signal` says that it is enough, or at the end. */
  async messageAfter (id: number, signal: AbortSignal): Promise<void> {
    while (!this.#isClosed && !signal.aborted && (this.#tail.ids.at(-1) ?? -Infinity) <= id) {
      await once(this, 'messages', { signal }).catch(() => {})
    }
  }
}
