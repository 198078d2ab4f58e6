import { say, sayCount } from './i18n.js'
import { attempt, isComposing, part, tell, within } from './page.js'
import { ReplyBar } from './replies.js'
import { tab } from './storage.js'

/** @typedef {import('../schemas/messages.ts').Message} Message */

const MAX = 2000 // code points, as the service counts
const WARN_BELOW = 200
/** A screen reader hears how many characters are left once nothing was typed for so long. */
const SAY_COUNT_MS = 1000
const DRAFT = 'draft'
const EDIT = 'edit'
const AUTHOR = 'author'
const GROWS_BY_ITSELF = CSS.supports('field-sizing', 'content')

/**
 * Whether the service would accept the text if it were shortened. Longer ones can only come from the
 * database.
 * @param {Message} message
 */
export const isEditable = ({ text }) => text.length <= 10 * MAX

/** @param {string} text @returns {number} its code points */
const count = (text) => text.length - (text.match(/[\ud800-\udbff][\udc00-\udfff]/g)?.length ?? 0)

/**
 * The field for new messages and for changes to old ones.
 * @param {(text: string, replyTo?: import('./replies.js').Replied) => void} send
 * @param {(message: { id: number }, text: string) => Promise<unknown>} save
 * @param {() => Message | undefined} last the message that one probably wants to change
 */
export function writeMessages(send, save, last) {
  const form = part('composer', HTMLFormElement)
  const input = part('text', HTMLTextAreaElement)
  /** @type {{ id: number } | undefined} */
  let edited
  const replyBar = new ReplyBar()
  let counting = 0

  /** Makes the field as high as its text, once it can be seen. */
  function grow() {
    if (input.offsetParent === null) return
    input.style.blockSize = 'auto'
    const border = input.offsetHeight - input.clientHeight
    input.style.blockSize = `${input.scrollHeight + border}px`
  }

  /** Shows how many characters are left, if they are few. */
  function check() {
    if (edited) tab.save(EDIT, JSON.stringify({ id: edited.id, text: input.value }))
    else tab.save(DRAFT, input.value)
    const left = MAX - count(input.value.trim())
    const told = left < 0 ? sayCount('charactersTooMany', -left) : sayCount('charactersLeft', left)
    const shown = left < WARN_BELOW ? told : ''
    tell(part('count', HTMLOutputElement), shown)
    clearTimeout(counting)
    counting = window.setTimeout(() => {
      part('count-said', HTMLElement).textContent = shown
    }, SAY_COUNT_MS)
    input.setAttribute('aria-invalid', `${left < 0}`)
    if (!GROWS_BY_ITSELF) grow()
    return left
  }

  /** @param {string} text */
  function show(text) {
    part('editing', HTMLElement).hidden = !edited
    const label = within(part('send', HTMLButtonElement), 'span')
    label.dataset['say'] = edited ? 'save' : 'send' // Named as well, so that it follows the language.
    label.textContent = say(edited ? 'save' : 'send')
    input.value = text
    check()
  }

  /** @param {string} text */
  function fill(text) {
    show(text)
    input.focus()
  }

  /** @param {Message} [message] none: a new one */
  function edit(message) {
    if (!message) tab.remove(EDIT)
    edited = message
    fill(message?.text ?? tab.load(DRAFT) ?? '')
  }

  // A screen keyboard has no Shift+Enter, so there an Enter begins a new line, and says so.
  const onScreenKeyboard = matchMedia('(pointer: coarse)')
  const nameEnter = () => {
    input.enterKeyHint = onScreenKeyboard.matches ? 'enter' : 'send'
  }
  nameEnter()
  onScreenKeyboard.addEventListener('change', nameEnter)
  const { id, text } = Object(tab.loadJson(EDIT))
  if (Number.isSafeInteger(id) && typeof text === 'string') edited = { id }
  show(edited ? text : (tab.load(DRAFT) ?? ''))
  input.addEventListener('input', check)
  if (!GROWS_BY_ITSELF) input.addEventListener('focus', grow)
  part('cancel', HTMLButtonElement).addEventListener('click', () => edit())
  input.addEventListener('keydown', (event) => {
    const message = event.key === 'ArrowUp' && !input.value ? last() : undefined
    const isPlainEnter = event.key === 'Enter' && !event.shiftKey && !isComposing(event)
    if (message) edit(message)
    else if (event.key === 'Escape' && edited) edit()
    else if (event.key === 'Escape' && replyBar.replied) replyBar.set()
    else if (isPlainEnter && !onScreenKeyboard.matches) form.requestSubmit()
    else return
    event.preventDefault()
  })
  form.addEventListener('submit', (event) => {
    event.preventDefault()
    const text = input.value.trim()
    const message = edited
    if (!text || check() < 0) return
    if (!message) {
      send(text, replyBar.replied)
      replyBar.set()
      return fill('')
    }
    attempt(
      'notice',
      async () => {
        await save(message, text)
        // What was typed meanwhile is not saved.
        if (edited === message && input.value.trim() === text) edit()
      },
      form
    )
  })
  part('cancel-reply', HTMLButtonElement).addEventListener('click', () => input.focus())

  /** Begins a reply to a message. @param {Message} message */
  function reply(message) {
    if (edited) edit()
    replyBar.set(message)
    input.focus()
  }

  /**
   * Nobody finds here what somebody else began to write.
   * @param {number} [userId] who writes from now on; undefined: nobody does
   */
  function belongTo(userId) {
    const author = `${userId ?? ''}`
    if (author === (tab.load(AUTHOR) ?? '')) return
    tab.save(AUTHOR, author)
    edited = undefined
    tab.remove(EDIT)
    replyBar.set()
    show('')
  }

  return { edit, reply, belongTo, focus: () => input.focus() }
}
