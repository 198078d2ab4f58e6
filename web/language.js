/** @typedef {Record<string, string | number | undefined>} Values */

/**
 * The first of the preferred languages that is offered.
 * @param {(string | undefined)[]} preferred such as `ru-RU`, best first
 * @param {string[]} offered
 */
export function chooseLanguage(preferred, offered) {
  for (const tag of preferred) {
    for (const known of [tag, tag?.split('-')[0]]) {
      if (known !== undefined && offered.includes(known)) return known
    }
  }
  return 'en'
}

/** Letters of scripts that are written right to left, and characters that change the direction. */
const CHANGES_DIRECTION =
  /[\u0590-\u08ff\u200e\u200f\u202a-\u202e\u2066-\u2069\ufb1d-\ufdff\ufe70-\ufefe\u{10800}-\u{10fff}\u{1e800}-\u{1efff}]/u
const [FIRST_STRONG_ISOLATE, POP_DIRECTIONAL_ISOLATE] = ['\u2068', '\u2069']

/**
 * A text that somebody wrote, for a sentence whose order it must not change (https://www.w3.org/TR/html-bidi/).
 * @param {string} text
 */
export const isolate = (text) =>
  CHANGES_DIRECTION.test(text) ? FIRST_STRONG_ISOLATE + text + POP_DIRECTIONAL_ISOLATE : text

/**
 * Fills values into a text: `{name}` stands for one, and a part in brackets is left out if it has a value
 * that is not known.
 * @param {string} text @param {Values} [values]
 */
export function fill(text, values = {}) {
  const isKnown = (/** @type {string} */ name) => values[name] !== undefined && values[name] !== ''
  return text
    .replace(/\[([^\]]*)\]/g, (_, part) => {
      const names = Array.from(part.matchAll(/\{(\w+)\}/g), ([, name]) => name)
      return names.every(isKnown) ? part : ''
    })
    .replace(/\{(\w+)\}/g, (_, name) => (isKnown(name) ? isolate(`${values[name]}`) : ''))
}

/**
 * The values in a sentence of the service, where its code does not tell all: a time, or a number.
 * @param {string} sentence such as `you are muted until 2026-01-31T12:00:00.000Z`
 * @returns {{ time?: Date, number?: number }}
 */
export function valuesIn(sentence) {
  const [time] = /\d{4}-\d\d-\d\dT[\d:.]+Z/.exec(sentence) ?? []
  if (time && !Number.isNaN(Date.parse(time))) return { time: new Date(time) }
  const [number] = /\b\d{1,9}\b/.exec(sentence) ?? []
  return number ? { number: Number(number) } : {}
}

/**
 * How long until something happens, such as `in 5 minutes`.
 * @param {string} locale @param {number} seconds
 */
export function timeUntil(locale, seconds) {
  const format = new Intl.RelativeTimeFormat(locale)
  if (seconds <= 90) return format.format(Math.ceil(seconds), 'second')
  if (seconds <= 90 * 60) return format.format(Math.ceil(seconds / 60), 'minute')
  return format.format(Math.ceil(seconds / 3600), 'hour')
}

/** A sentence as one writes it: with a capital letter and a full stop. @param {string} text */
export function asSentence(text) {
  const trimmed = text.trim()
  const end = /[.!?…]$/.test(trimmed) ? '' : '.'
  return trimmed && trimmed.charAt(0).toUpperCase() + trimmed.slice(1) + end
}
