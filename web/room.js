/** @typedef {import('../schemas/messages.ts').Message} Message */
/** @typedef {{ messages: Message[], cursor: number }} Page */
/** @typedef {'older' | 'newer'} End */
/**
 * What happened, and where in the log; without `seq` it is known from elsewhere.
 * @typedef {{ seq?: number } & ({ type: 'message_created' | 'message_updated', message: Message } | { type: 'message_deleted', id: number })} Change
 */

export const PAGE = 50
/** Messages that are kept, however many there are: as many as one page can have. */
export const WINDOW = 200

/** A part of the room without a gap: the newest messages, or older ones while the reader looks at those. It draws nothing. */
export class Room {
  /** Ascending by id. @type {Message[]} */
  messages = []
  /** Whether there is more at either end. */
  more = { older: false, newer: false }
  /** Where the events go on that are not in it yet; undefined: it is to be read anew. @type {number | undefined} */
  cursor
  newest = 0 // the newest id that was ever seen
  isFollowing = true // the reader looks at the newest end; the other one is let go then
  /** What was new since somebody took it from here. @type {Message[]} */
  arrived = []
  /** What happened while a page is under way. @type {Change[] | undefined} */
  #meanwhile
  #loads = 0
  /** @param {(query: string) => Promise<Page>} read @param {() => void} changed called after each change */
  constructor (read, changed) {
    this.read = read
    this.changed = changed
  }
  /** Begins anew, with the newest messages. */
  loadNewest () {
    return this.#load(`limit=${PAGE}`, ({ messages, cursor }) => {
      this.messages = messages
      this.more = { older: messages.length === PAGE, newer: false }
      this.isFollowing = true
      this.cursor ??= cursor
    })
  }
  /** Loads more at that end, if there is more and nothing else is under way. @param {End} end */
  async loadMore (end) {
    const edge = () => this.messages.at(end === 'older' ? 0 : -1)?.id
    const id = edge()
    if (this.#meanwhile || !this.more[end] || id === undefined) return
    await this.#load(`limit=${PAGE}&${end === 'older' ? 'before' : 'after'}_id=${id}`, ({ messages }) => {
      if (edge() !== id) return // the view moved on: whoever still wants it asks again
      this.more[end] = messages.length === PAGE
      this.messages = end === 'older' ? [...messages, ...this.messages] : [...this.messages, ...messages]
      this.#trim(end === 'older' ? 'newer' : 'older')
    })
  }
  /** Reads again what is there, for whoever hears of new messages only. */
  async refresh () {
    const first = this.messages[0]?.id
    if (first === undefined) return this.loadNewest()
    await this.#load(`limit=${WINDOW}&after_id=${first - 1}`, ({ messages }) => {
      this.messages = messages
      this.more.newer = messages.length === WINDOW && (messages.at(-1)?.id ?? 0) < this.newest
    })
  }
  /** @param {Change[]} changes in their order */
  apply (changes) {
    for (const change of changes) {
      this.#meanwhile?.push(change)
      this.#put(change)
      this.cursor = change.seq ?? this.cursor
    }
    this.changed()
  }
  /**
   * A page is as old as its cursor, and the room is not: what happened since it was read happens to it again. A later load
   * makes an earlier one void. @param {string} query @param {(page: Page) => void} place
   */
  async #load (query, place) {
    const load = ++this.#loads
    /** @type {Change[]} */
    const meanwhile = this.#meanwhile = []
    try {
      const page = await this.read(query)
      if (load !== this.#loads) return
      place(page)
      this.newest = Math.max(this.newest, page.messages.at(-1)?.id ?? 0)
      for (const change of meanwhile) if (change.seq === undefined || change.seq > page.cursor) this.#put(change)
    } finally {
      if (load === this.#loads) this.#meanwhile = undefined
      this.changed()
    }
  }
  /** @param {Change} change the same one again changes nothing */
  #put (change) {
    const { messages } = this
    const id = change.type === 'message_deleted' ? change.id : change.message.id
    const at = messages.findLastIndex((message) => message.id <= id)
    const isThere = messages[at]?.id === id
    if (change.type === 'message_deleted') messages.splice(at, isThere ? 1 : 0)
    else if (change.type === 'message_updated') messages.splice(at, isThere ? 1 : 0, ...isThere ? [change.message] : [])
    else {
      if (id > this.newest) this.arrived.push(change.message)
      this.newest = Math.max(this.newest, id)
      const isBeyond = at < 0 ? this.more.older : at === messages.length - 1 && this.more.newer
      if (isThere || isBeyond) return
      messages.splice(at + 1, 0, change.message)
      this.#trim(this.isFollowing ? 'older' : 'newer')
    }
  }
  /** @param {End} end the one that may go */
  #trim (end) {
    const excess = this.messages.length - WINDOW
    if (excess <= 0) return
    this.messages.splice(end === 'older' ? 0 : WINDOW, excess)
    this.more[end] = true
  }
}
