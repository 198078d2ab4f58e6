import { ChatError, unexpected } from './error.js'
import { EventParser } from './event-parser.js'
import { PAGE, Recent } from './recent.js'
import { backOffMs, sleep, Watch } from './wait.js'

/**
 * @import { ChatClient } from './index.js'
 * @import { FollowEvent, FollowOptions, Message, Room } from './types.ts'
 * @import { Change } from './recent.js'
 */

/** After so many streams in a row that were no use, it polls. */
const MAX_USELESS = 2
/** A stream that lived for so long was of use, even if nothing happened. */
const USEFUL_MS = 5000
/** A replica may be behind another. If it is for so long, the log has lost its end. */
const MAX_BEHIND_MS = 15_000
/** Between polls that do not wait although they should. */
const PAUSE_MS = 1000

/** @param {Message} message @returns {Change} */
const toCreated = (message) => ({ type: 'message_created', message })

const TYPES = ['message_created', 'message_updated', 'message_deleted', 'room_updated']

/** @param {Room | undefined} a @param {Room} b */
const isSameRoom = (a, b) =>
  a?.topic === b.topic && a.slowModeSeconds === b.slowModeSeconds && a.readOnly === b.readOnly

/**
 * Follows the room by a stream of events, or by long polls for as long as no stream comes through.
 * @param {ChatClient} client
 * @param {FollowOptions} options
 * @returns {AsyncGenerator<FollowEvent, void, undefined>}
 */
export async function* follow(client, options) {
  const { signal, onRetry } = options
  const follower = new Follower(client, options)
  while (!signal?.aborted) {
    try {
      for await (const event of follower.read()) {
        yield event
        if (signal?.aborted) return
      }
    } catch (error) {
      if (signal?.aborted) return
      if (!(error instanceof ChatError) || follower.isRefusedBy(error)) throw error
      const waitMs = backOffMs(++follower.failures, (error.retryAfter ?? 0) * 1000)
      onRetry?.(error, waitMs)
      await sleep(waitMs, signal)
    }
  }
}

class Follower {
  /** Failures in a row. */
  failures = 0
  #client
  #options
  /** The last event that was passed on; undefined until a list is loaded. @type {number | undefined} */
  #cursor
  /** What the next list is. @type {'list' | 'reset'} */
  #list
  /** Unknown where only a cursor was given. @type {Recent | undefined} */
  #recent
  /** The messages after the cursor that polls have passed on already. @type {Set<number>} */
  #polled = new Set()
  /** The last known settings. @type {Room | undefined} */
  #room
  #pollUntil = 0
  /** Streams in a row that were no use. */
  #useless = 0
  /** Resets in a row. */
  #resets = 0
  /** Since when lists come from before the cursor. @type {number | undefined} */
  #behindSince

  /**
   * @param {ChatClient} client
   * @param {FollowOptions} options
   */
  constructor(client, { since, ...options }) {
    this.#client = client
    this.#options = {
      limit: 50,
      firstByteMs: 5000,
      silenceMs: 40_000,
      pollForMs: 60_000,
      waitSeconds: 10,
      ...options
    }
    this.#cursor = since
    this.#list = since === undefined ? 'list' : 'reset'
  }

  /** Whether asking again is of no use. @param {ChatError} error */
  isRefusedBy({ status, isTemporary }) {
    return status === 400 || (this.#list === 'list' && !isTemporary)
  }

  /**
   * Reads the list, one stream or one page.
   * @returns {AsyncGenerator<FollowEvent, void, undefined>}
   */
  async *read() {
    if (this.#cursor === undefined) yield this.#load(await this.#page({ limit: this.#options.limit }))
    else if (Date.now() < this.#pollUntil) yield* this.#poll(this.#cursor)
    else yield* this.#stream(this.#cursor)
  }

  /** @param {{ limit: number, after_id?: number, before_id?: number, wait?: number }} query */
  async #page(query) {
    const { signal } = this.#options
    const { data, headers } = await this.#client.request('get', '/api/messages', query, { signal })
    const cursor = headers.get('x-event-cursor')
    if (cursor === null) {
      throw new ChatError('the list has no X-Event-Cursor', { status: 200, code: 'unexpected_response' })
    }
    return { messages: data, cursor: Number(cursor) }
  }

  /**
   * Begins anew with the newest messages.
   * @param {{ messages: Message[], cursor: number }} page
   * @returns {FollowEvent}
   */
  #load({ messages, cursor }) {
    const type = this.#list
    this.#list = 'reset'
    this.#recent = new Recent()
    this.#recent.replace(messages, messages.length === 0)
    this.#polled.clear()
    this.#behindSince = undefined
    this.#cursor = cursor
    this.failures = 0
    return { type, messages, cursor }
  }

  /** @param {number} since */
  async *#stream(since) {
    const { signal, firstByteMs, silenceMs, pollForMs } = this.#options
    const headers = this.#client.headers({ Accept: 'text/event-stream' })
    const watch = new Watch(signal)
    const parser = new EventParser()
    const openedAt = Date.now()
    let hasEvents = false
    /** @type {unknown} */
    let cause
    let hasAnswer = false
    watch.expect(firstByteMs)
    try {
      const response = await this.#client.open(`/api/events?since=${since}`, {
        headers,
        signal: watch.signal
      })
      hasAnswer = true
      const isStream = response.headers.get('content-type')?.startsWith('text/event-stream')
      if (!isStream || !response.body) throw unexpected(response)
      const reader = response.body.getReader()
      for (let part = await reader.read(); !part.done; part = await reader.read()) {
        watch.rest() // for as long as the caller works on the events
        for (const { id, event } of parser.push(part.value)) {
          hasEvents = true
          this.failures = 0
          if (event.type === 'reset') {
            this.#cursor = undefined
            if (++this.#resets > 1) await sleep(backOffMs(this.#resets), signal)
            return
          }
          const passedOn = this.#pass(id, event)
          if (passedOn) yield passedOn
        }
        watch.expect(silenceMs)
      }
    } catch (error) {
      cause = error
    } finally {
      watch.end()
    }
    if (signal?.aborted) return
    const { retryMs = 0, isOpen } = parser
    if (watch.isExpired) return this.#pollFor(pollForMs) // Something in between holds it back, or it is dead.
    if (!isOpen && retryMs > 0) return this.#pollFor(retryMs) // There is no room for another stream.
    const isRefused = cause instanceof ChatError && cause.status >= 400 && !cause.isTemporary
    const isUseful = hasEvents || Date.now() - openedAt > USEFUL_MS
    if (isUseful) {
      this.#useless = 0
      this.failures = 0
    } else if ((hasAnswer || isRefused) && ++this.#useless >= MAX_USELESS) {
      this.#useless = 0
      this.#pollFor(pollForMs)
    }
    if (cause instanceof ChatError) throw cause
    const details = { status: 0, code: 'network_error', retryAfter: retryMs / 1000, cause }
    throw new ChatError('the stream of events was cut', details)
  }

  /** @param {number} ms */
  #pollFor(ms) {
    this.#pollUntil = Date.now() + ms
  }

  /**
   * Moves the cursor.
   * @param {number} id
   * @param {Change} event
   * @returns {FollowEvent | undefined} what the caller has not seen yet
   */
  #pass(id, event) {
    if (id <= (this.#cursor ?? 0)) return undefined
    this.#cursor = id
    this.#resets = 0
    this.#recent?.apply(event)
    const isKnown = event.type === 'message_created' && this.#polled.delete(event.message.id)
    const isRepeated = event.type === 'room_updated' && isSameRoom(this.#room, event.room)
    if (event.type === 'room_updated') this.#room = event.room
    return isKnown || isRepeated || !TYPES.includes(event.type) ? undefined : { ...event, cursor: id }
  }

  /**
   * Asks for what is new, and finds out what else happened.
   * @param {number} since
   */
  async *#poll(since) {
    const askedAt = Date.now()
    const recent = this.#recent
    if (!recent) {
      // The cursor alone does not tell which messages are new.
      const page = await this.#page({ limit: this.#options.limit })
      const event = this.#load(page)
      if (page.cursor !== since) yield event
      return
    }
    const wait = this.#options.waitSeconds
    const page = await this.#pollPage({ after_id: recent.newestId, limit: PAGE, wait })
    this.failures = 0
    if (this.#isBehind(page.cursor, since)) return sleep(PAUSE_MS, this.#options.signal)
    const isAll = page.cursor - since <= this.#polled.size + page.messages.length
    yield* this.#passAll(page.messages.map(toCreated), isAll ? page.cursor : undefined)
    if (isAll && page.messages.length === 0 && Date.now() - askedAt < PAUSE_MS) {
      await sleep(PAUSE_MS, this.#options.signal)
    }
    if (isAll || page.messages.length === PAGE) return

    // Something happened that such a page does not show.
    const newest = await this.#readNewest()
    if (!newest) return
    const isConnected = newest.isWhole || (newest.messages[0]?.id ?? 0) <= recent.newestId
    if (!isConnected || this.#isBehind(newest.cursor, page.cursor)) return
    const changes = recent.changesTo(newest.messages, newest.isWhole)
    if (newest.cursor - since > this.#polled.size + changes.length) {
      const room = await this.#client.showRoom({}, { signal: this.#options.signal })
      if (!isSameRoom(this.#room, room)) changes.push({ type: 'room_updated', room })
    }
    yield* this.#passAll(changes, newest.cursor)
    recent.replace(newest.messages, newest.isWhole)
  }

  /**
   * Reads the newest messages, and whether these are all. A page may be short because its texts are too long
   * together.
   * @returns {Promise<{ messages: Message[], cursor: number, isWhole: boolean } | undefined>} undefined if
   *   something happened between two pages
   */
  async #readNewest() {
    const { messages, cursor } = await this.#pollPage({ limit: PAGE })
    while (messages[0] && messages.length < PAGE) {
      const older = await this.#pollPage({ limit: PAGE - messages.length, before_id: messages[0].id })
      if (older.messages.length === 0) return { messages, cursor, isWhole: true }
      if (older.cursor !== cursor) return undefined
      messages.unshift(...older.messages)
    }
    return { messages, cursor, isWhole: messages.length === 0 }
  }

  /**
   * A page for a poll. If the service cannot be reached, a stream is the first to be tried again.
   * @param {{ limit: number, after_id?: number, before_id?: number, wait?: number }} query
   */
  async #pollPage(query) {
    try {
      return await this.#page(query)
    } catch (error) {
      if (error instanceof ChatError && (error.status === 0 || error.status >= 500)) this.#pollUntil = 0
      throw error
    }
  }

  /**
   * Passes on what polls have found.
   * @param {Change[]} changes
   * @param {number | undefined} cursor the one after them, unless something else happened as well
   * @returns {Generator<FollowEvent, void, undefined>}
   */
  *#passAll(changes, cursor) {
    for (const [index, change] of changes.entries()) {
      this.#recent?.apply(change)
      if (change.type === 'message_created') this.#polled.add(change.message.id)
      if (change.type === 'room_updated') this.#room = change.room
      if (index === changes.length - 1) this.#advance(cursor)
      yield { ...change, cursor: this.#cursor ?? 0 }
    }
    if (changes.length === 0) this.#advance(cursor)
  }

  /** @param {number | undefined} cursor */
  #advance(cursor) {
    if (cursor === undefined) return
    this.#cursor = cursor
    this.#polled.clear()
  }

  /**
   * Whether a list is older than what was passed on already.
   * @param {number} cursor
   * @param {number} since
   */
  #isBehind(cursor, since) {
    this.#behindSince = cursor < since ? (this.#behindSince ?? Date.now()) : undefined
    if (this.#behindSince === undefined) return false
    if (Date.now() - this.#behindSince > MAX_BEHIND_MS) this.#cursor = undefined
    return true
  }
}
