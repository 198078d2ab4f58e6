import { Failure } from './api.js'
import { readReplied } from './replies.js'
import { onOtherTab, shared } from './storage.js'

/**
 * A message that the service has not confirmed.
 * @typedef {object} Entry
 * @property {string} key its Idempotency-Key: however often the message is sent, there will be one
 * @property {number} userId
 * @property {string} text
 * @property {import('./replies.js').Replied | undefined} [replyTo]
 * @property {number} at when it was written, in milliseconds since 1970
 * @property {number} after an id that the message will come after
 * @property {boolean} [isSaved] whether it survives a reload
 * @property {boolean} [isTried]
 * @property {Failure} [failure] of the last try
 */

const PREFIX = 'outbox.'
/** Written over an entry before it is removed: so other tabs know it from one that somebody cleared away. */
const DONE = '"done"'
// A message that is confirmed sooner needs no warning that it could not be saved.
const WARN_AFTER_MS = 1000

/**
 * What was written and is not confirmed. It is sent one message after another, again and again, until each
 * is confirmed or refused for good. It survives the page, as long as the browser stores it; on this page it
 * survives anything.
 */
export class Outbox {
  /** Of everybody who was logged in here, by their keys. @type {Map<string, Entry>} */
  #all = new Map()
  #isSending = false
  /** Whether the service said when to try again. */
  #mustWait = false
  #endPause = () => {}

  /**
   * @param {import('./session.js').Session} session @param {import('./room.js').Room} room
   * @param {() => void} changed called after each change
   */
  constructor(session, room, changed) {
    this.session = session
    this.room = room
    this.changed = changed
    session.addEventListener('change', () => this.load())
    onOtherTab(PREFIX, (name, value) => {
      if (name && value === DONE) this.#all.delete(name.slice(PREFIX.length))
      this.#read()
      this.changed()
      this.#start()
    })
  }

  /** The unsent messages of the current user, oldest first. */
  get entries() {
    return this.#entriesOf(this.session.account)
  }

  /** @param {{ userId: number } | undefined} person */
  #entriesOf(person) {
    const own = [...this.#all.values()].filter(({ userId }) => userId === person?.userId)
    return own.sort((a, b) => a.at - b.at)
  }

  /** Whether a reload would lose a message. One that is sent at this moment does not count. */
  get wouldLose() {
    const { account } = this.session
    return [...this.#all.values()].some(({ isSaved, failure, userId, at }) => {
      const isWaiting =
        failure !== undefined || userId !== account?.userId || Date.now() - at >= WARN_AFTER_MS
      return isWaiting && !isSaved
    })
  }

  /** Begins with what an earlier page has left, or another account. */
  load() {
    this.#read()
    this.#endPause()
    this.send()
  }

  /** @param {string} text @param {import('./replies.js').Replied} [replyTo] */
  add(text, replyTo) {
    const bytes = crypto.getRandomValues(new Uint8Array(16))
    const key = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')
    const userId = this.session.account?.userId ?? 0
    /** @type {Entry} */
    const entry = { key, userId, text, replyTo, at: Date.now(), after: this.room.newest }
    this.#all.set(key, entry)
    this.#save()
    if (!entry.isSaved) setTimeout(this.changed, WARN_AFTER_MS)
    this.send()
  }

  /** @param {string} key */
  discard(key) {
    shared.save(PREFIX + key, DONE)
    shared.remove(PREFIX + key)
    this.#all.delete(key)
    this.#save() // There may be space for another one now.
    this.changed()
  }

  /** @param {string} key */
  retry(key) {
    const entry = this.#all.get(key)
    if (entry) delete entry.failure
    this.#endPause()
    this.send()
  }

  /**
   * What the reader should see: not what the room shows already, which happens when a message comes back
   * before its confirmation. Whoever has to log in again sees that it is still there.
   */
  get visible() {
    const { messages } = this.room
    const { account, former } = this.session
    return this.#entriesOf(account ?? former).filter((entry) => {
      const { isTried, failure, userId, text, replyTo, after } = entry
      if (!isTried || failure?.isTemporary === false) return true
      const isIt = (/** @type {import('./room.js').Message} */ message) => {
        const isAnswer = message.replyTo?.id === replyTo?.id
        return message.userId === userId && message.id > after && message.text === text && isAnswer
      }
      return !messages.some(isIt)
    })
  }

  /** Sends what waits, now, unless the service said when to try again. */
  send() {
    this.changed()
    if (!this.#mustWait) this.#endPause()
    this.#start()
  }

  async #start() {
    if (this.#isSending) return
    this.#isSending = true
    try {
      await this.#sendAll()
    } finally {
      this.#isSending = false
    }
  }

  async #sendAll() {
    let failures = 0
    for (;;) {
      const entry = this.entries.find(({ failure }) => failure?.isTemporary !== false)
      if (!entry) return
      try {
        await this.#sendOne(entry)
        failures = 0
      } catch (failure) {
        if (!(failure instanceof Failure)) throw failure
        if (!this.session.account) return // It waits for its owner.
        if (failure.isSessionOver) continue // Another tab has begun a new session.
        entry.failure = failure
        this.changed()
        if (!failure.isTemporary) continue
        this.#mustWait = failure.retryMs > 0
        await this.#pause(failure.retryMs || Math.min(1000 * 2 ** failures++, 15_000))
        this.#mustWait = false
      }
    }
  }

  /**
   * Sends an entry, which is still there afterwards if it has to be sent again.
   * @param {Entry} entry @throws {Failure}
   */
  async #sendOne(entry) {
    entry.isTried = true
    const { text, key, replyTo } = entry
    const body = { text, replyTo: replyTo?.id }
    let message
    try {
      message = await this.session.call('POST', 'messages', { body, key })
    } catch (failure) {
      const isQuoteGone = failure instanceof Failure && failure.code === 'reply_to_not_found'
      if (!replyTo || !isQuoteGone) throw failure
      return this.#removeQuote(entry)
    }
    if (!Number.isSafeInteger(Object(message).id)) throw Failure.unexpected()
    for (const other of this.entries) {
      if (other.text === text) other.after = message.id
    }
    this.discard(key)
    this.room.apply([{ type: 'message_created', message }])
  }

  /**
   * What was replied to is gone. What was written is not lost with it: it is sent without the quote.
   * @param {Entry} entry
   */
  #removeQuote(entry) {
    entry.replyTo = undefined
    entry.isSaved = false
    this.#save()
  }

  /** Adds what another tab or an earlier page has stored. */
  #read() {
    for (const name of shared.names(PREFIX)) {
      const entry = readEntry(name)
      if (entry && !this.#all.has(entry.key)) this.#all.set(entry.key, { ...entry, isSaved: true })
    }
    this.#save()
  }

  /**
   * Stores what is not stored: because it is new, because there was no space, or because somebody cleared
   * it away.
   */
  #save() {
    for (const entry of this.#all.values()) {
      const { key, userId, text, replyTo, at, after } = entry
      if (entry.isSaved && readEntry(PREFIX + key)) continue
      entry.isSaved = shared.save(PREFIX + key, JSON.stringify({ key, userId, text, replyTo, at, after }))
    }
  }

  /** @param {number} ms */
  #pause(ms) {
    return new Promise((resolve) => {
      this.#endPause = () => resolve(undefined)
      setTimeout(resolve, ms)
    })
  }
}

/**
 * Anything may have been written into the storage.
 * @param {string} name @returns {Entry | undefined} undefined if there is no message that could be sent
 */
function readEntry(name) {
  const { key, userId, text, replyTo, at, after } = Object(shared.loadJson(name))
  const isMessage = name === PREFIX + key && /^[\x21-\x7e]{1,64}$/.test(key) && Number.isSafeInteger(userId)
  if (!isMessage || typeof text !== 'string' || !text) return undefined
  return {
    key,
    userId,
    text,
    replyTo: readReplied(replyTo),
    at: Number.isFinite(at) ? at : 0,
    after: Number.isFinite(after) ? after : 0
  }
}
