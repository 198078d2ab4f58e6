import { say } from './i18n.js'
import { hueOf, part, tell, within } from './page.js'
import { tab } from './storage.js'
import { excerptOf } from './text.js'

/** @typedef {import('../schemas/messages.ts').Message} Message */
/** @typedef {NonNullable<Message['replyTo']>} Replied a message that another one replies to */

const NAME = 'reply'

/**
 * Anything may have been written into the storage.
 * @param {unknown} value @returns {Replied | undefined} undefined if nothing can be replied to it
 */
export function readReplied(value) {
  const { id, userId, nickname, text } = Object(value)
  const isOne = Number.isSafeInteger(id) && Number.isSafeInteger(userId)
  if (!isOne || typeof nickname !== 'string' || typeof text !== 'string') return undefined
  return { id, userId, nickname, text }
}

/** What is being replied to, above the field for the message. It outlives a reload, like the draft. */
export class ReplyBar {
  #replied = readReplied(tab.loadJson(NAME))

  constructor() {
    part('cancel-reply', HTMLButtonElement).addEventListener('click', () => this.set())
    this.#draw()
  }

  get replied() {
    return this.#replied
  }

  /** @param {Message} [message] none: the next message is not a reply */
  set(message) {
    if (message) {
      const { id, userId, nickname, text } = message
      this.#replied = { id, userId, nickname, text: excerptOf(text) }
      tab.save(NAME, JSON.stringify(this.#replied))
    } else {
      this.#replied = undefined
      tab.remove(NAME)
    }
    this.#draw()
  }

  #draw() {
    const bar = part('replying', HTMLElement)
    bar.hidden = !this.#replied
    if (this.#replied) writeQuote(bar, this.#replied)
  }
}

/**
 * Writes who said what into the `.whom` and `.what` of a quote.
 * @param {HTMLElement} element @param {Replied} replied
 */
function writeQuote(element, { userId, nickname = '', text = '', deleted }) {
  element.style.setProperty('--hue', `${hueOf(userId ?? 0)}`)
  element.classList.toggle('deleted', deleted === true)
  tell(within(element, '.whom'), nickname)
  within(element, '.what').textContent = deleted ? say('deletedMessage') : text
}

/**
 * Shows in a message what it replies to.
 * @param {HTMLElement} element of the message @param {Replied} [replied]
 */
export function showReplied(element, replied) {
  const quote = /** @type {HTMLAnchorElement} */ (within(element, '.quote'))
  quote.hidden = !replied
  if (!replied) return
  if (replied.deleted) quote.removeAttribute('href')
  else quote.href = `#m${replied.id}`
  writeQuote(quote, replied)
}
