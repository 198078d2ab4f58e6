import { say } from './i18n.js'
import { attempt, part, tell } from './page.js'

/** @typedef {import('../schemas/messages.ts').Message} Message */

const MAX = 2000 // code points, as the service counts
const WARN_BELOW = 200
const DRAFT = 'chat.draft' // of this tab

/** Where one writes, a new message or a changed one; `last` is the message that one probably wants to change.
 * @param {(text: string) => void} send @param {(message: Message, text: string) => Promise<unknown>} save @param {() => Message | undefined} last */
export function writeMessages (send, save, last) {
  const form = part('composer', HTMLFormElement)
  const input = part('text', HTMLTextAreaElement)
  /** @type {Message | undefined} */
  let edited
  function count () {
    if (!edited) sessionStorage.setItem(DRAFT, input.value)
    const left = MAX - [...input.value.trim()].length
    tell(part('count', HTMLOutputElement), left < WARN_BELOW ? `${left}` : '')
    input.setAttribute('aria-invalid', `${left < 0}`)
    return left
  }
  /** @param {string} text */
  function fill (text) {
    part('editing', HTMLElement).hidden = !edited
    part('send', HTMLButtonElement).textContent = say(edited ? 'save' : 'send')
    input.value = text
    count()
    input.focus()
  }
  /** @param {Message} [message] none: a new one */
  function edit (message) {
    edited = message
    fill(message?.text ?? sessionStorage.getItem(DRAFT) ?? '')
  }
  input.value = sessionStorage.getItem(DRAFT) ?? ''
  count()
  input.addEventListener('input', count)
  part('cancel', HTMLButtonElement).addEventListener('click', () => edit())
  input.addEventListener('keydown', (event) => {
    const message = event.key === 'ArrowUp' && !input.value ? last() : undefined
    if (message) edit(message)
    else if (event.key === 'Escape' && edited) edit()
    // An Enter that ends the input of a character is none, and a screen keyboard has no Shift+Enter.
    else if (event.key === 'Enter' && !event.shiftKey && !event.isComposing && !matchMedia('(pointer: coarse)').matches) form.requestSubmit()
    else return
    event.preventDefault()
  })
  form.addEventListener('submit', (event) => {
    event.preventDefault()
    const text = input.value.trim()
    const message = edited
    if (!text || count() < 0) return
    if (message) return attempt('notice', () => save(message, text).then(() => { if (edited === message) edit() }), form)
    send(text)
    fill('')
  })
  return { edit, focus: () => input.focus() }
}
