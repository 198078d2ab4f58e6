/**
 * The small part of Markdown that people write in chats: code blocks, `code`, **bold**, *italic* or _italic_,
 * and addresses of the web. Everything else is text, as it was written.
 *
 * @typedef {{ type: 'text' | 'mention' | 'code' | 'block', text: string }} Plain
 * @typedef {{ type: 'link', text: string, href: string, host: string }} Link
 * @typedef {{ type: 'strong' | 'em', parts: Part[] }} Emphasis
 * @typedef {Plain | Link | Emphasis} Part
 */

const FENCE = '```'
/** A code block. What follows the opening fence in its line is the name of a language. */
const BLOCK = /\n?```(?:[\w+#.-]*\n)?((?:(?!```)[^])+?)\n?```\n?/g

// Each alternative ends at its own mark or at the end of the line, so that the whole takes linear time.
// Stars within words are stars (2*3*4), and so are underscores (snake_case) and what follows a backslash.
const MARKS = [
  '`(?<code>[^`\\n]+)`',
  '(?<link>\\b(?:https?://|www\\.)[^\\s<>"`]+)',
  '(?<![\\w*\\\\])\\*\\*(?<strong>[^\\s*](?:(?:[^*\\n]|\\*(?!\\*))*[^\\s*])?)\\*\\*(?![\\w*])',
  '(?<![\\w*\\\\])\\*(?<star>[^\\s*](?:[^*\\n]*[^\\s*])?)\\*(?![\\w*])',
  '(?<![\\p{L}\\p{N}_\\\\])_(?<line>[^\\s_](?:[^_\\n]*[^\\s_])?)_(?![\\p{L}\\p{N}_])'
]

/** @param {string} nickname @returns {string} the source of a regular expression */
function mentionOf(nickname) {
  const escaped = nickname.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&')
  return `(?<![\\p{L}\\p{N}_])@${escaped}(?![\\p{L}\\p{N}_-])`
}

/** Whether a text has `@nickname` in it. @param {string} text @param {string} nickname */
export const isMentioned = (text, nickname) => new RegExp(mentionOf(nickname), 'iu').test(text)

/**
 * @param {string} text
 * @param {{ isCut?: boolean, nickname?: string | undefined }} [options] `isCut`: the text goes on, so that an
 *   address at its end is not known; `nickname`: that of the reader, whose mentions are found
 * @returns {Part[]}
 */
export function parse(text, { isCut = false, nickname } = {}) {
  const sources = nickname ? [`(?<mention>${mentionOf(nickname)})`, ...MARKS] : MARKS
  const marks = new RegExp(sources.join('|'), 'giu')
  const parts = []
  let end = 0
  for (const block of text.matchAll(BLOCK)) {
    parts.push(...parseLines(text.slice(end, block.index), marks, false))
    parts.push(plain('block', block[1] ?? ''))
    end = block.index + block[0].length
  }
  const open = isCut ? text.indexOf(FENCE, end) : -1
  const rest = text.slice(end, open < 0 ? undefined : open)
  parts.push(...parseLines(rest, marks, isCut && open < 0))
  if (open >= 0) parts.push(plain('block', text.slice(open + FENCE.length)))
  return parts
}

/** @param {Plain['type']} type @param {string} text @returns {Plain} */
const plain = (type, text) => ({ type, text })

/**
 * @param {string} text without code blocks
 * @param {RegExp} marks @param {boolean} isCut
 * @returns {Part[]}
 */
function parseLines(text, marks, isCut) {
  /** @type {Part[]} */
  const parts = []
  let start = 0
  const own = new RegExp(marks)
  for (let found = own.exec(text); found; found = own.exec(text)) {
    const { mention, code, link, strong, star, line } = found.groups ?? {}
    const isUnknown = isCut && own.lastIndex === text.length
    /** @type {Part | undefined} */
    let part
    if (mention) part = plain('mention', mention)
    else if (code) part = plain('code', code)
    else if (strong) part = { type: 'strong', parts: parseLines(strong, marks, false) }
    else if (star || line) part = { type: 'em', parts: parseLines(star ?? line ?? '', marks, false) }
    else if (link && !isUnknown) part = linkOf(link)
    if (!part) continue
    if (part.type === 'link') own.lastIndex = found.index + part.text.length
    if (found.index > start) parts.push(plain('text', text.slice(start, found.index)))
    parts.push(part)
    start = own.lastIndex
  }
  if (start < text.length) parts.push(plain('text', text.slice(start)))
  return parts
}

/**
 * The address at the beginning of a run of characters, without the punctuation of the sentence around it: a
 * bracket belongs to the address if it was opened in it.
 * @param {string} run @returns {Link | undefined}
 */
function linkOf(run) {
  const countOf = (/** @type {string} */ character) => run.split(character).length - 1
  const excess = { ')': countOf(')') - countOf('('), ']': countOf(']') - countOf('[') }
  let end = run.length
  for (; end > 0; end--) {
    const last = run.charAt(end - 1)
    if (last === ')' || last === ']') {
      if (excess[last] <= 0) break
      excess[last]--
    } else if (!/['.,:;!?*]/.test(last)) break
  }
  const text = run.slice(0, end)
  const href = /^www\./i.test(text) ? `https://${text}` : text
  try {
    return { type: 'link', text, href, host: new URL(href).host }
  } catch {
    return undefined
  }
}

/** Characters without a shape that change the order of those around them. */
const BIDI_CONTROLS = /[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g

/**
 * What a link shows: where it leads. A typed address can pretend to be another one, by letters that look like
 * others (the host is then shown in punycode), a host before an `@`, or characters that turn its end around.
 * @param {Link} link
 */
export function shownAddress({ text, host }) {
  const [start = '', scheme = '', typedHost = ''] = /^(https?:\/\/)?([^/\\?#]*)/i.exec(text) ?? []
  const address = typedHost.toLowerCase() === host ? text : scheme + host + text.slice(start.length)
  return address.replace(BIDI_CONTROLS, encodeURIComponent)
}
