/** @import { Message, Schemas } from './types.ts' */
/** @typedef {Exclude<Schemas['Event'], { type: 'reset' }>} Change */

/** The largest page of the service. */
export const PAGE = 200

/**
 * @param {Message} a
 * @param {Message} b
 */
const isSame = (a, b) => a.text === b.text && a.nickname === b.nickname && a.editedAt === b.editedAt

/** The newest messages as they are at the cursor. With them, polls find out what was edited or deleted. */
export class Recent {
  /** @type {Map<number, Message>} */
  #messages = new Map()
  /** All messages from this id on are known. */
  #from = 0
  /** The newest message that there was. */
  newestId = 0

  /** @param {Message[]} page the newest messages @param {boolean} isWhole whether there are no others */
  replace(page, isWhole) {
    this.#messages = new Map(page.map((message) => [message.id, message]))
    this.#from = isWhole ? 0 : (page[0]?.id ?? 0)
    this.newestId = Math.max(this.newestId, page.at(-1)?.id ?? 0)
  }

  /** @param {Change} change */
  apply(change) {
    if (change.type === 'message_deleted') this.#messages.delete(change.id)
    if (change.type === 'message_created') this.#add(change.message)
    if (change.type === 'message_updated' && this.#messages.has(change.message.id)) {
      this.#messages.set(change.message.id, change.message)
    }
  }

  /** @param {Message} message */
  #add(message) {
    this.newestId = Math.max(this.newestId, message.id)
    this.#messages.set(message.id, message)
    if (this.#messages.size < 2 * PAGE) return
    const newest = [...this.#messages.values()].sort((a, b) => a.id - b.id).slice(-PAGE)
    this.replace(newest, false)
  }

  /**
   * What must have happened so that these are now the newest messages.
   * @param {Message[]} page ascending by id
   * @param {boolean} isWhole whether there are no others
   * @returns {Change[]}
   */
  changesTo(page, isWhole) {
    const from = Math.max(this.#from, isWhole ? 0 : (page[0]?.id ?? 0))
    const ids = new Set(page.map(({ id }) => id))
    /** @type {Change[]} */
    const changes = [...this.#messages.keys()]
      .filter((id) => id >= from && !ids.has(id))
      .map((id) => ({ type: 'message_deleted', id }))
    for (const message of page) {
      if (message.id < from) continue
      const known = this.#messages.get(message.id)
      if (!known) changes.push({ type: 'message_created', message })
      else if (!isSame(known, message)) changes.push({ type: 'message_updated', message })
    }
    return changes
  }
}
