import { shared } from './storage.js'

/** @typedef {import('../schemas/messages.ts').Message} Message */

const NAME = 'read'
const SAVE_MS = 500

/** Up to where this browser has shown the room to its reader, and where the "New messages" line is. */
export class ReadMark {
  /** The newest id that the reader has seen; undefined: nothing yet. @type {number | undefined} */
  #read
  #saving = 0
  #isFirst = true
  #isOfThisAbsence = false

  /** The messages after this id are new; undefined: there is no line. @type {number | undefined} */
  line

  constructor() {
    const stored = shared.loadJson(NAME)
    if (Number.isSafeInteger(stored)) this.#read = Number(stored)
    addEventListener('pagehide', () => {
      if (this.#saving) this.#save()
    })
  }

  /**
   * Notes what the room has got. The line stays until the reader answers, or is away again.
   * @param {Message[]} messages ascending by id
   * @param {boolean} isLooking whether the reader sees the newest of them
   * @param {number | undefined} userId of the reader, whose own messages are never new
   */
  update(messages, isLooking, userId) {
    const newest = messages.at(-1)?.id
    if (newest === undefined) return
    const isFirstVisit = this.#read === undefined
    const read = (this.#read ??= newest)
    const mayBegin = this.#isFirst || (!isLooking && !this.#isOfThisAbsence)
    if (mayBegin && messages.some((message) => message.id > read && message.userId !== userId)) {
      this.line = read
      this.#isOfThisAbsence = true
    }
    const { line = Infinity } = this
    if (messages.some((message) => message.id > line && message.userId === userId)) this.line = undefined
    const isOpening = this.#isFirst && this.line !== undefined
    this.#isFirst = false
    if (!isLooking || isOpening) return // The page opens at the line.
    this.#isOfThisAbsence = false
    if (newest <= read && !isFirstVisit) return
    this.#read = newest
    this.#saving ||= window.setTimeout(() => this.#save(), SAVE_MS)
  }

  #save() {
    clearTimeout(this.#saving)
    this.#saving = 0
    shared.save(NAME, `${this.#read}`)
  }

  /** Whether the line is above this message. @param {Message} message @param {Message} [previous] */
  isAbove({ id }, previous) {
    return this.line !== undefined && id > this.line && (previous?.id ?? 0) <= this.line
  }
}
