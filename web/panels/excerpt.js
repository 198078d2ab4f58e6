/** How much of a text is shown, and how much of it before the first match. */
const [LENGTH, BEFORE] = [220, 60]
/** The service finds words by their stems: so the ends of words may differ. */
const END = 2
const SHORTEST = 3

/** @param {string} query @returns {RegExp | undefined} finds the words of the query, whatever they end in */
function wordsOf(query) {
  const words = query.match(/[\p{L}\p{M}\p{N}]+/gu) ?? []
  const starts = words.map((word) => {
    const characters = [...word]
    return characters.slice(0, Math.max(SHORTEST, characters.length - END)).join('')
  })
  if (starts.length === 0) return undefined
  return new RegExp(`(?<![\\p{L}\\p{M}\\p{N}])(?:${starts.join('|')})[\\p{L}\\p{M}\\p{N}]*`, 'giu')
}

/**
 * The part of a text around what was searched for, split so that every second piece is a match.
 * @param {string} text @param {string} query
 * @returns {string[]}
 */
export function excerpt(text, query) {
  const words = wordsOf(query)
  const first = words ? text.search(words) : -1
  const start = first > BEFORE ? wordStart(text, first - BEFORE) : 0
  const end = Math.min(text.length, start + LENGTH)
  const shown = text.slice(start, endWithin(text, end))
  /** @type {string[]} */
  const pieces = []
  let at = 0
  for (const match of words ? shown.matchAll(words) : []) {
    pieces.push(shown.slice(at, match.index), match[0])
    at = match.index + match[0].length
  }
  pieces.push(shown.slice(at) + (end < text.length ? '…' : ''))
  if (start > 0) pieces[0] = `…${pieces[0]}`
  return pieces
}

/** @param {string} text @param {number} at */
function wordStart(text, at) {
  const space = text.slice(at, at + BEFORE).search(/\s/)
  return space < 0 ? endWithin(text, at) : at + space + 1
}

/** Not within a code point. @param {string} text @param {number} at */
const endWithin = (text, at) => (/[\ud800-\udbff]/.test(text.charAt(at - 1)) ? at - 1 : at)
