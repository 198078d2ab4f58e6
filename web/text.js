/**
 * How much of a message is on the page before somebody asks for more: any text that the service accepts,
 * unless it has very many lines.
 */
const FOLDED = { characters: 4000, lines: 60 }
/** How many characters come with the first "Show more"; each further one doubles them. */
const FIRST_STEP = 20_000

/**
 * The beginning of a text, which is not cut within a code point.
 * @param {string} text @param {number} characters at most @param {number} [lines] at most
 */
export function beginningOf(text, characters, lines) {
  let end = Math.min(text.length, characters)
  let line = 0
  for (let at = text.indexOf('\n'); at >= 0 && at < end; at = text.indexOf('\n', at + 1)) {
    line++
    if (line === lines) end = at
  }
  const isWithin = end < text.length && /[\ud800-\udbff]/.test(text.charAt(end - 1))
  return text.slice(0, isWithin ? end - 1 : end)
}

/** The code points of a message that its replies show, as the service cuts it. */
const MAX_EXCERPT = 100

/** The beginning of a text, for a reply to it. @param {string} text */
export function excerptOf(text) {
  const points = [...text.slice(0, 2 * MAX_EXCERPT + 2)]
  return points.length > MAX_EXCERPT ? `${points.slice(0, MAX_EXCERPT - 1).join('')}…` : text
}

/**
 * What is shown of a text.
 * @param {string} text
 * @param {number} [characters] how many were asked for; none: folded
 */
export function shownOf(text, characters) {
  return characters ? beginningOf(text, characters) : beginningOf(text, FOLDED.characters, FOLDED.lines)
}

/** How many characters come next. @param {number} [characters] how many were asked for until now */
export const nextStep = (characters) => (characters ? characters * 2 : FIRST_STEP)
