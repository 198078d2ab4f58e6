import { asSentence, chooseLanguage, fill, timeUntil, valuesIn } from './language.js'
import { shared } from './storage.js'

/** @typedef {typeof import('./i18n/en.js').default} English */
/** @typedef {keyof English['texts']} Key */
/** @typedef {Partial<Record<Intl.LDMLPluralRule, string>> & { other: string }} Plurals */
/**
 * What a file of `web/i18n/` exports.
 * @typedef {object} Words
 * @property {string} dir
 * @property {English['texts']} texts
 * @property {Record<keyof English['counts'], Plurals>} counts
 * @property {English['errors']} errors
 */

/** @param {string} tag of a language @returns {Promise<Words>} */
const load = async (tag) => (await import(`./i18n/${tag}.js`)).default

const offered = Array.from(document.querySelectorAll('#language option'), (option) => {
  return /** @type {HTMLOptionElement} */ (option).value
})
/** The chosen language, otherwise the first of the browser's languages that the page has. */
export let language = chooseLanguage([shared.load('language'), ...navigator.languages], offered)
// It is loaded beside the rest of the page. (Awaiting it here would break Safari, where modules that import
// one that awaits may run too early: https://bugs.webkit.org/show_bug.cgi?id=242740.)
const firstWords = load(language)
/** @type {Words} */
let words

/** Renders the page in the reader's language. To be called before anything else here. */
export async function speak() {
  words = await firstWords
  render()
}

let switches = 0
/**
 * Switches to another language.
 * @param {string} tag @returns {Promise<boolean>} false if another choice was made meanwhile
 * @throws {TypeError} if it cannot be loaded
 */
export async function switchTo(tag) {
  const attempt = ++switches
  const loaded = await load(tag)
  if (attempt !== switches) return false
  words = loaded
  language = tag
  shared.save('language', tag)
  render()
  return true
}

/** @param {Key} key @param {import('./language.js').Values} [values] */
export const say = (key, values) => fill(words.texts[key], values)

/** @param {keyof English['counts']} key @param {number} count */
export function sayCount(key, count) {
  const forms = words.counts[key]
  const form = forms[new Intl.PluralRules(language).select(count)] ?? forms.other
  return fill(form, { count: count.toLocaleString(locale()) })
}

/**
 * An error of the service in the reader's language, or in the service's own words if the code is unknown.
 * @param {string} code @param {string} sentence the service's own
 * @param {number} [seconds] until the same request may succeed
 */
export function sayError(code, sentence, seconds) {
  if (!Object.hasOwn(words.errors, code)) return asSentence(sentence)
  const { time, number } = valuesIn(sentence)
  return fill(words.errors[/** @type {keyof English['errors']} */ (code)], {
    until: time && sayDate(time, 'moment'),
    number,
    in: seconds ? timeUntil(locale(), seconds) : undefined
  })
}

/** The reader's own locale within the language, because times are written differently within one language. */
export const locale = () =>
  navigator.languages.find((tag) => tag.startsWith(language) && isLocale(tag)) ?? language

/** Browsers have named locales that they themselves refuse, such as `en-US@posix`. @param {string} tag */
function isLocale(tag) {
  try {
    return Intl.getCanonicalLocales(tag).length > 0
  } catch {
    return false
  }
}

function makeFormatters() {
  return {
    time: new Intl.DateTimeFormat(locale(), { timeStyle: 'short' }),
    day: new Intl.DateTimeFormat(locale(), { dateStyle: 'full' }),
    full: new Intl.DateTimeFormat(locale(), { dateStyle: 'full', timeStyle: 'medium' }),
    moment: new Intl.DateTimeFormat(locale(), { dateStyle: 'medium', timeStyle: 'short' })
  }
}
let formatters = makeFormatters()

/** @param {Date} date @param {keyof typeof formatters} [as] @returns {string} empty for an invalid date */
export function sayDate(date, as = 'time') {
  return Number.isNaN(date.getTime()) ? '' : formatters[as].format(date)
}

/** @param {Date} date */
export function sayDay(date) {
  const today = new Date()
  const yesterday = new Date()
  yesterday.setDate(yesterday.getDate() - 1) // Not 24 hours ago: some days are shorter, others longer.
  if (date.toDateString() === today.toDateString()) return say('today')
  return date.toDateString() === yesterday.toDateString() ? say('yesterday') : sayDate(date, 'day')
}

function render() {
  formatters = makeFormatters()
  document.documentElement.lang = language
  document.documentElement.dir = words.dir
  const templates = Array.from(document.querySelectorAll('template'), ({ content }) => content)
  for (const root of [document, ...templates]) {
    /** @type {NodeListOf<HTMLElement>} */
    const elements = root.querySelectorAll('[data-say], [data-label]')
    for (const element of elements) {
      const { say: text, label } = element.dataset
      if (text) element.textContent = say(/** @type {Key} */ (text))
      const attribute = element instanceof HTMLTextAreaElement ? 'placeholder' : 'aria-label'
      if (label) element.setAttribute(attribute, say(/** @type {Key} */ (label)))
    }
  }
}
