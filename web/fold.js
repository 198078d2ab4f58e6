import { say } from './i18n.js'
import { parse } from './markdown.js'
import { part, within } from './page.js'
import { render } from './render.js'
import { nextStep, shownOf } from './text.js'

/**
 * A text is folded if it is higher, in units of the font size. The style sheet says how much of it is seen
 * then.
 */
const FOLD_ABOVE_REM = 30

/**
 * Writes the texts of messages, and folds those that are too high: one sees their beginning, and a button
 * shows more. Of a text that is very long, only a part is on the page at all, and each "Show more" adds to
 * it.
 */
export class Texts {
  /**
   * How many characters somebody asked for, by the names of the messages.
   * @type {Map<number | string, number>}
   */
  #unfolded = new Map()
  /** @type {WeakMap<HTMLElement, { name: number | string, text: string }>} */
  #written = new WeakMap()
  #keepInPlace
  #me

  /**
   * @param {(element: HTMLElement, change: () => void) => void} keepInPlace makes a change while the
   *   element stays where it is
   * @param {() => string | undefined} me the nickname of the reader
   */
  constructor(keepInPlace, me) {
    this.#keepInPlace = keepInPlace
    this.#me = me
  }

  /**
   * @param {HTMLElement} element of a message @param {number | string} name of the message
   * @param {string} text
   */
  write(element, name, text) {
    this.#written.set(element, { name, text })
    const shown = shownOf(text, this.#unfolded.get(name))
    const place = within(element, '.text')
    place.id = `message-${name}`
    const parts = parse(shown, { isCut: shown.length < text.length, nickname: this.#me() })
    place.replaceChildren(...render(parts))
    place.classList.toggle('emoji', /^\p{RGI_Emoji}{1,3}$/v.test(text))

    const toggle = within(element, '.toggle')
    toggle.setAttribute('aria-controls', place.id)
    toggle.onclick = () => this.#toggle(element, toggle)
    within(element, '.further').onclick = () => this.#showFurther(element)
  }

  /**
   * Folds those that are too high, and unfolds those that are not. To be called once texts are written and
   * part of the page, and when they may have got another width.
   * @param {HTMLElement[]} elements of messages that are written
   */
  fold(elements) {
    const limit = FOLD_ABOVE_REM * parseFloat(getComputedStyle(document.documentElement).fontSize)
    // First everything is measured, then everything is changed: so it is laid out but once.
    const heights = elements.map((element) => within(element, '.text').offsetHeight)
    elements.forEach((element, i) => this.#setFold(element, (heights[i] ?? 0) > limit))
    for (const element of elements) skipHiddenLinks(element)
  }

  /** @param {HTMLElement} element @param {boolean} isHigh */
  #setFold(element, isHigh) {
    const { name = '', text = '' } = this.#written.get(element) ?? {}
    const characters = this.#unfolded.get(name)
    const isFoldable = isHigh || shownOf(text).length < text.length
    const isFolded = isFoldable && characters === undefined
    const isPart = characters !== undefined && characters < text.length
    const fold = within(element, '.fold')
    if (!isFoldable && fold.contains(document.activeElement)) {
      part('scroller', HTMLElement).focus({ preventScroll: true })
    }
    fold.hidden = !isFoldable
    within(element, '.body').classList.toggle('folded', isFolded)
    within(element, '.body').classList.toggle('unfolded', isFoldable && !isFolded)
    within(element, '.further').hidden = !isPart
    const toggle = within(element, '.toggle')
    toggle.textContent = say(isFolded ? 'showMore' : 'showLess')
    toggle.ariaExpanded = `${!isFolded}`
  }

  /** @param {HTMLElement} element @param {HTMLElement} toggle */
  #toggle(element, toggle) {
    const { name = '', text = '' } = this.#written.get(element) ?? {}
    const isUnfolded = this.#unfolded.delete(name)
    if (!isUnfolded) this.#unfolded.set(name, nextStep())
    // What grows below the reader's eyes keeps its beginning, and what shrinks keeps the button under the
    // pointer.
    this.#keepInPlace(isUnfolded ? toggle : element, () => {
      this.write(element, name, text)
      this.fold([element])
    })
  }

  /** @param {HTMLElement} element */
  #showFurther(element) {
    const { name = '', text = '' } = this.#written.get(element) ?? {}
    this.#unfolded.set(name, nextStep(this.#unfolded.get(name)))
    this.#keepInPlace(element, () => {
      this.write(element, name, text)
      this.fold([element])
    })
    if (within(element, '.further').hidden) within(element, '.toggle').focus({ preventScroll: true })
  }
}

/** The keyboard passes over links that cannot be seen, below the fold. @param {HTMLElement} element */
function skipHiddenLinks(element) {
  const body = within(element, '.body')
  const { bottom } = within(element, '.clip').getBoundingClientRect()
  for (const link of body.querySelectorAll('a')) {
    const isHidden = body.classList.contains('folded') && link.getBoundingClientRect().bottom > bottom
    link.tabIndex = isHidden ? -1 : 0
  }
}
