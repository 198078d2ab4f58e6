import { Failure } from './api.js'
import { load, names, onOtherTab, save } from './storage.js'

/**
 * What is to be sent, until the service has confirmed it: `key` is its Idempotency-Key, so that it is one message however often it
 * is sent; `after` an id that it comes after; `failure` that of the last try.
 * @typedef {{ key: string, userId: number, text: string, at: number, after: number, isTried?: boolean, failure?: Failure }} Entry
 */

/** What was written and is not confirmed. It outlives the page, and is sent one after another, again and again, until it is or cannot be. */
export class Outbox {
  /** @type {Entry[]} */
  entries = []
  #isRunning = false
  #wake = () => {}
  /** @param {import('./session.js').Session} session @param {import('./room.js').Room} room @param {() => void} changed called after each change */
  constructor (session, room, changed) {
    this.session = session
    this.room = room
    this.changed = changed
    session.addEventListener('change', () => this.load())
    onOtherTab('outbox.', () => this.load())
  }
  /** Finds what is there for whoever is logged in, also from another tab or an earlier page. */
  load () {
    const known = new Map(this.entries.map((entry) => [entry.key, entry]))
    /** @type {Entry[]} */
    const stored = names('outbox.').map((name) => JSON.parse(load(name) ?? 'null'))
    this.entries = stored.filter((entry) => entry?.userId === this.session.account?.userId).map((entry) => known.get(entry.key) ?? entry).sort((a, b) => a.at - b.at)
    this.send()
  }
  /** @param {string} text */
  add (text) {
    const key = Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('')
    const entry = { key, userId: this.session.account?.userId ?? 0, text, at: Date.now(), after: this.room.newest }
    save(`outbox.${key}`, JSON.stringify(entry))
    this.entries.push(entry)
    this.send()
  }
  /** @param {string} key */
  discard (key) {
    save(`outbox.${key}`, undefined)
    this.entries = this.entries.filter((entry) => entry.key !== key)
    this.changed()
  }
  /** @param {string} key */
  retry (key) {
    for (const entry of this.entries) if (entry.key === key) delete entry.failure
    this.send()
  }
  /** What the reader has to see of it: not what the room shows already, because it came there before its confirmation. */
  get visible () {
    return this.entries.filter(({ isTried, failure, userId, text, after }) => !isTried || failure?.isTemporary === false ||
      !this.room.messages.some((message) => message.userId === userId && message.id > after && message.text === text))
  }
  /** Sends what waits, now. */
  async send () {
    this.changed()
    this.#wake()
    if (this.#isRunning) return
    this.#isRunning = true
    for (let tries = 0, entry; (entry = this.entries.find(({ failure }) => failure?.isTemporary !== false));) {
      try {
        entry.isTried = true
        const message = await this.session.call('POST', 'messages', { body: { text: entry.text }, key: entry.key })
        for (const other of this.entries) if (other.text === entry.text) other.after = message.id
        this.discard(entry.key)
        this.room.apply([{ type: 'message_created', message }])
        tries = 0
      } catch (failure) {
        if (!(failure instanceof Failure)) throw failure
        if (!this.session.account) break // it waits for its owner
        entry.failure = failure
        this.changed()
        if (failure.isTemporary) await this.#pause(failure.retryMs || Math.min(1000 * 2 ** tries++, 15_000))
      }
    }
    this.#isRunning = false
  }
  /** @param {number} ms */
  #pause (ms) {
    return new Promise((resolve) => {
      this.#wake = () => resolve(undefined)
      setTimeout(resolve, ms)
    })
  }
}
