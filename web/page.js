import { Failure } from './api.js'

/**
 * The element of the page with that id, which must be of that kind.
 * @template {HTMLElement} Kind @param {string} id @param {new () => Kind} kind @returns {Kind}
 */
export function part (id, kind) {
  const element = document.getElementById(id)
  if (!(element instanceof kind)) throw new Error(`#${id} is missing`)
  return element
}

/** A new element from a template. @param {string} id @returns {HTMLElement} */
export const make = (id) => /** @type {HTMLElement} */ (part(id, HTMLTemplateElement).content.firstElementChild?.cloneNode(true))

/** The element below that the selector finds. @param {HTMLElement} element @param {string} selector @returns {HTMLElement} */
export const within = (element, selector) => /** @type {HTMLElement} */ (element.querySelector(selector))

/** Says something in a place that is hidden otherwise. @param {HTMLElement} place @param {string} [text] */
export function tell (place, text = '') {
  if (place.textContent !== text) place.textContent = text
  place.hidden = !text
}

/** Does what may fail, and says why it did. @param {string} place @param {() => Promise<unknown>} work @param {HTMLElement} [form] busy meanwhile */
export async function attempt (place, work, form) {
  if (form?.ariaBusy) return
  tell(part(place, HTMLElement))
  if (form) form.ariaBusy = 'true'
  await work().catch((failure) => {
    if (!(failure instanceof Failure)) throw failure
    tell(part(place, HTMLElement), failure.message)
  }).finally(() => { if (form) form.ariaBusy = null })
}
