import { excerptOf } from './text.js'

/** @typedef {import('../schemas/messages.ts').Message} Message */
/** @typedef {import('../schemas/room.ts').Room} Settings */
/** @typedef {{ messages: Message[], cursor: number }} Page */
/** @typedef {'older' | 'newer'} End */

/**
 * Something that happened in the room, and where in the log; without `seq` it is known from elsewhere.
 * @typedef {{ type: 'message_created' | 'message_updated', message: Message }} Put
 * @typedef {{ type: 'message_deleted', id: number }} Deletion
 * @typedef {{ type: 'room_updated', room: Settings }} Update
 * @typedef {{ seq?: number } & (Put | Deletion | Update)} Change
 */

export const PAGE = 50
/** How many messages are kept: as many as one page can have. */
export const WINDOW = 200
/** How many deletions are remembered. */
const MAX_DELETED = 1000

/** @param {string} [editedAt] none: it was never edited */
const timeOf = (editedAt) => (editedAt === undefined ? -Infinity : Date.parse(editedAt))

/**
 * A part of the room without a gap: the newest messages, or older ones while the reader looks at those. It
 * draws nothing, but dispatches `change`.
 *
 * The service may cut a page short, so that it does not get too large. Only an empty page says that there
 * is nothing more.
 */
export class Room extends EventTarget {
  /** Ascending by id. @type {Message[]} */
  messages = []
  /** Whether there may be more at either end. */
  more = { older: false, newer: false }
  /** From where the events go on; undefined: the room has to be read anew. @type {number | undefined} */
  cursor
  /** The newest id that was ever seen. */
  newest = 0
  /** Whether the reader looks at the newest end. The other end is let go then. */
  isFollowing = true
  /** The topic and the rules of the room, once they are known. @type {Settings | undefined} */
  settings
  /** What was new since somebody took it from here. @type {Message[]} */
  arrived = []
  /** The last messages that were deleted. @type {Set<number>} */
  #deleted = new Set()
  /** What happened while a page is under way. @type {Change[] | undefined} */
  #meanwhile
  #loads = 0

  /** @param {(query: string) => Promise<Page>} read */
  constructor(read) {
    super()
    this.read = read
  }

  /** Begins anew, with the newest messages. */
  loadNewest() {
    return this.#load(`limit=${PAGE}`, ({ messages, cursor }) => {
      this.messages = messages
      this.more = { older: messages.length > 0, newer: false }
      this.isFollowing = true
      this.cursor ??= cursor
    })
  }

  /**
   * Loads more at that end, if there may be more and nothing else is under way. If all messages that were
   * there have been deleted, it begins anew.
   * @param {End} end
   */
  async loadMore(end) {
    if (this.#meanwhile || !this.more[end]) return
    const edge = () => this.messages.at(end === 'older' ? 0 : -1)?.id
    const id = edge()
    if (id === undefined) return this.loadNewest()
    await this.#load(`limit=${PAGE}&${end === 'older' ? 'before' : 'after'}_id=${id}`, ({ messages }) => {
      if (edge() !== id) return // The view has moved on; it is requested again if it is still needed.
      this.messages = end === 'older' ? [...messages, ...this.messages] : [...this.messages, ...messages]
      if (end === 'older') this.more.older = messages.length > 0
      else this.more.newer = this.#isShortOfNewest(messages)
      this.#trim(end === 'older' ? 'newer' : 'older')
    })
  }

  /**
   * Loads a message and what is around it, in place of what is there.
   * @param {number} id
   * @returns {Promise<boolean | undefined>} false if there is no such message, undefined if something else
   *   was loaded meanwhile; nothing changes then
   */
  async loadAround(id) {
    const half = PAGE / 2
    let isFound = false
    const result = await this.#load(
      [`limit=${half}&before_id=${id + 1}`, `limit=${half}&after_id=${id}`],
      ({ messages }) => {
        isFound = messages.some((message) => message.id === id)
        if (!isFound) return
        this.messages = messages
        this.more = { older: true, newer: this.#isShortOfNewest(messages) }
        this.isFollowing = false
      }
    )
    return result === 'void' ? undefined : isFound
  }

  /** Reloads the messages that are shown, for readers who only get new messages. */
  async refresh() {
    const first = this.messages[0]?.id
    if (first === undefined) return this.loadNewest()
    let isComplete = false
    for (let after = first - 1; !isComplete;) {
      const result = await this.#load(`limit=${WINDOW}&after_id=${after}`, ({ messages }) => {
        const until = messages.at(-1)?.id ?? Infinity
        const before = this.messages.filter(({ id }) => id <= after)
        const rest = this.messages.filter(({ id }) => id > until)
        this.messages = [...before, ...messages, ...rest]
        this.#trim(this.isFollowing ? 'older' : 'newer')
        after = until
        if ((this.messages.at(-1)?.id ?? 0) > until) return
        const isShort = this.#isShortOfNewest(messages)
        isComplete = this.more.newer || !isShort
        this.more.newer &&= isShort
      })
      if (result === 'void') return
    }
  }

  /** Whether a message is known to be deleted. @param {number} id */
  isDeleted(id) {
    return this.#deleted.has(id)
  }

  /** Whether messages are known that come after this page. @param {Message[]} page */
  #isShortOfNewest(page) {
    const last = page.at(-1)
    return last !== undefined && last.id < this.newest
  }

  /** @param {Change[]} changes in their order */
  apply(changes) {
    for (const change of changes) {
      this.#meanwhile?.push(change)
      this.#put(change)
      this.cursor = change.seq ?? this.cursor
    }
    this.dispatchEvent(new Event('change'))
  }

  /**
   * A page is as old as its cursor, and the room is not: what happened since the page was read happens to
   * it again. A later load makes an earlier one void.
   * @param {string | string[]} query for one page, or for several that follow each other
   * @param {(page: Page) => void} place
   * @returns {Promise<'placed' | 'void'>}
   */
  async #load(query, place) {
    const load = ++this.#loads
    /** @type {Change[]} */
    const meanwhile = (this.#meanwhile = [])
    try {
      const pages = await Promise.all([query].flat().map((each) => this.read(each)))
      const page = {
        messages: pages.flatMap(({ messages }) => messages),
        cursor: Math.min(...pages.map(({ cursor }) => cursor))
      }
      if (load !== this.#loads) return 'void'
      place(page)
      this.newest = Math.max(this.newest, page.messages.at(-1)?.id ?? 0)
      for (const change of meanwhile) {
        if (change.seq === undefined || change.seq > page.cursor) this.#put(change)
      }
      return 'placed'
    } finally {
      if (load === this.#loads) this.#meanwhile = undefined
      this.dispatchEvent(new Event('change'))
    }
  }

  /** @param {Change} change the same one again changes nothing */
  #put(change) {
    if (change.type === 'room_updated') this.settings = change.room
    else if (change.type === 'message_deleted') this.#remove(change.id)
    // Others are not known here.
    else if ('message' in change && !this.#isOutdated(change)) this.#putMessage(change.type, change.message)
  }

  /**
   * Whether the message has been deleted or edited since. The response to a post or an edit can arrive after
   * the events that followed it, because it takes another connection.
   * @param {{ seq?: number } & Put} change
   */
  #isOutdated({ seq, message: { id, editedAt } }) {
    if (seq !== undefined) return false
    const known = this.messages.findLast((message) => message.id === id)
    return this.#deleted.has(id) || timeOf(known?.editedAt) > timeOf(editedAt)
  }

  /** @param {number} id */
  #remove(id) {
    this.#deleted.add(id)
    const [first] = this.#deleted
    if (first !== undefined && this.#deleted.size > MAX_DELETED) this.#deleted.delete(first)
    const at = this.messages.findIndex((message) => message.id === id)
    if (at >= 0) this.messages.splice(at, 1)
    this.#quote({ id, deleted: true })
  }

  /** @param {Put['type']} type @param {Message} message */
  #putMessage(type, message) {
    const { id, userId, nickname, text } = message
    this.#deleted.delete(id) // A service that marks messages as deleted can restore them.
    const at = this.messages.findLastIndex((other) => other.id <= id)
    const isThere = this.messages[at]?.id === id
    if (type === 'message_created') this.#create(message, at, isThere)
    else if (isThere) this.messages[at] = message
    this.#quote({ id, userId, nickname, text: excerptOf(text) })
  }

  /**
   * Updates a message in its replies. There is no event for the replies themselves.
   * @param {NonNullable<Message['replyTo']>} replyTo
   */
  #quote(replyTo) {
    this.messages.forEach((message, i) => {
      const { id, text } = message.replyTo ?? {}
      if (id === replyTo.id && text !== replyTo.text) this.messages[i] = { ...message, replyTo }
    })
  }

  /** @param {Message} message @param {number} at the index of what comes before @param {boolean} isThere */
  #create(message, at, isThere) {
    const { messages } = this
    if (message.id > this.newest) this.arrived.push(message)
    this.newest = Math.max(this.newest, message.id)
    const isBeyond = at < 0 ? this.more.older : at === messages.length - 1 && this.more.newer
    if (isThere || isBeyond) return
    messages.splice(at + 1, 0, message)
    this.#trim(this.isFollowing ? 'older' : 'newer')
  }

  /** @param {End} end the one that may go */
  #trim(end) {
    const excess = this.messages.length - WINDOW
    if (excess <= 0) return
    this.messages.splice(end === 'older' ? 0 : WINDOW, excess)
    this.more[end] = true
  }
}
