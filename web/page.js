import { Failure } from './api.js'
import { say } from './i18n.js'

/**
 * The element of the page with that id.
 * @template {HTMLElement} Kind
 * @param {string} id @param {new () => Kind} kind
 * @returns {Kind}
 */
export function part(id, kind) {
  const element = document.getElementById(id)
  if (!(element instanceof kind)) throw new Error(`#${id} is missing`)
  return element
}

/** A new element from a template. @param {string} id @returns {HTMLElement} */
export function make(id) {
  const { content } = part(id, HTMLTemplateElement)
  return /** @type {HTMLElement} */ (content.firstElementChild?.cloneNode(true))
}

/**
 * The first element inside that the selector finds.
 * @param {HTMLElement} element
 * @param {string} selector
 * @returns {HTMLElement}
 */
export function within(element, selector) {
  return /** @type {HTMLElement} */ (element.querySelector(selector))
}

/** The hue of somebody's avatar and name, in degrees. @param {number} userId */
export const hueOf = (userId) => (userId * 137) % 360

/**
 * Says something in a place that is hidden as long as there is nothing to say.
 * @param {HTMLElement} place
 * @param {string} [text]
 */
export function tell(place, text = '') {
  if (place.textContent !== text) place.textContent = text
  place.hidden = !text
}

/** Gives the keyboard a place to go on from if the element that had the focus is gone, or hidden. */
export function rescueFocus() {
  const { activeElement: focused, body } = document
  if (focused && focused !== body && focused.checkVisibility()) return
  part('writing', HTMLElement).focus({ preventScroll: true })
}

/** The `keyCode` of a key that an input method has taken. */
const COMPOSING = 229

/**
 * Whether a key belongs to an input method: such as the Enter that confirms a composed character. Safari ends
 * the composition before this event, whose keyCode alone still tells
 * (https://bugs.webkit.org/show_bug.cgi?id=165004).
 * @param {KeyboardEvent} event
 */
export const isComposing = (event) => event.isComposing || event.keyCode === COMPOSING

/** How long good news stay in sight. */
const GOOD_NEWS_MS = 4000

/** Says for a moment that something went well. @param {string} text */
export function tellBriefly(text) {
  const status = part('status', HTMLElement)
  status.classList.add('good')
  tell(status, text)
  setTimeout(() => {
    if (status.textContent === text) tell(status)
  }, GOOD_NEWS_MS)
}

/** The modules that were loaded when they were needed. @type {Set<string>} */
const known = new Set()

/**
 * Loads a module when it is needed.
 * @template Result
 * @param {string} path of the module, in `web/`
 * @param {() => Promise<Result>} load imports it
 * @returns {Promise<Result>} @throws {Failure}
 */
export async function loaded(path, load) {
  if (!known.has(path)) {
    // Firefox never again tries to import what it could not load once. So this is tried first.
    const response = await fetch(new URL(path, import.meta.url)).catch(() => {
      throw Failure.unreachable()
    })
    if (!response.ok) throw Failure.unexpected(response.status)
  }
  const result = await load().catch(() => {
    throw new Failure(say('reloadPage'))
  })
  known.add(path)
  return result
}

/**
 * Does what may fail, and shows why it did.
 * @param {string} place the id of the element that shows it
 * @param {() => Promise<unknown>} work
 * @param {HTMLElement} [form] is marked as busy meanwhile, and does nothing else
 */
export async function attempt(place, work, form) {
  if (form?.ariaBusy) return
  // When the work fails, a dialog may be closed, and another one may have an element with the same id.
  const notice = part(place, HTMLElement)
  notice.classList.remove('good')
  tell(notice)
  if (form) form.ariaBusy = 'true'
  try {
    await work()
  } catch (failure) {
    if (!(failure instanceof Failure)) throw failure
    tell(notice, failure.message)
    // What was sent may be far below.
    notice.scrollIntoView({ block: 'nearest' })
  } finally {
    if (form) form.ariaBusy = null
  }
}
