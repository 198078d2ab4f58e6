import { say } from '../i18n.js'
import { rescueFocus } from '../page.js'

/**
 * Makes an element.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Partial<HTMLElementTagNameMap[Tag]>} properties of the element
 * @param {...(Node | string)} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties)
  element.append(...children)
  return element
}

/**
 * A field with its label above it.
 * @param {string} label @param {HTMLInputElement | HTMLSelectElement | HTMLTextAreaElement} control
 */
export function field(label, control) {
  return make('label', {}, make('span', { textContent: label }), control)
}

/**
 * A button.
 * @param {import('../i18n.js').Key} text @param {string} className
 * @param {() => unknown} [act] none: it submits its form
 */
export function action(text, className, act) {
  const type = act ? 'button' : 'submit'
  return make('button', { type, className, textContent: say(text), onclick: act ?? null })
}

/** @type {Promise<unknown> | undefined} */
let styles

/** Loads the style sheet of the panels, once. */
export function loadStyles() {
  return (styles ??= new Promise((resolve) => {
    const href = new URL('panels.css', import.meta.url).href
    // A panel without its style sheet is still of use.
    const link = make('link', { rel: 'stylesheet', href, onload: resolve, onerror: resolve })
    document.head.append(link)
  }))
}

/**
 * Gives the focus to an item of a list, so that the keyboard goes on from there.
 * @param {HTMLElement} place @param {number} at which item; there may be fewer
 */
export function focusItem(place, at) {
  const items = [...place.querySelectorAll('li')]
  const item = items.at(Math.min(at, items.length - 1))
  if (item) item.tabIndex = -1
  ;(item ?? place).focus()
}

/**
 * Replaces what is in a place. If the focus was in an item there, it goes to the one that comes instead.
 * @param {HTMLElement} place gets the focus itself if there is no item any more
 * @param {...Node} content
 */
export function replaceContent(place, ...content) {
  const hadFocus = place !== document.activeElement && place.contains(document.activeElement)
  const at = Array.from(place.querySelectorAll('li')).findIndex((item) => item.matches(':focus-within'))
  place.replaceChildren(...content)
  if (hadFocus) focusItem(place, Math.max(at, 0))
}

/**
 * Shows a dialog, which is removed once it is closed. The focus returns to where it was.
 * @param {HTMLDialogElement} dialog
 */
export function showDialog(dialog) {
  document.body.append(dialog)
  dialog.addEventListener('close', () => {
    dialog.remove()
    rescueFocus()
  })
  // A click beside it lands on the dialog itself, outside of its box.
  dialog.addEventListener('click', ({ target, clientX, clientY }) => {
    if (target !== dialog) return
    const { left, right, top, bottom } = dialog.getBoundingClientRect()
    if (clientX < left || clientX > right || clientY < top || clientY > bottom) dialog.close()
  })
  dialog.showModal()
}
