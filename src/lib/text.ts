// Unicode and Go count U+0085 as white space; JavaScript does not.
const SPACE = /[\s\u0085]/

/**
 * Trims a text and replaces lone surrogates by U+FFFD, as Go's encoding/json does.
 */
export function normalizeText(text: string): string {
  // Not with a regular expression for both ends, which takes quadratic time if there is a lot of white space
  // in the middle.
  let start = 0
  let end = text.length
  while (start < end && SPACE.test(text.charAt(start))) start++
  while (end > start && SPACE.test(text.charAt(end - 1))) end--
  return text.slice(start, end).toWellFormed()
}

/**
 * Characters that fonts render as nothing, although Unicode calls them neither white space nor ignorable:
 * KHITAN SMALL SCRIPT FILLER, BRAILLE PATTERN BLANK, annotation and hieroglyph controls, EGYPTIAN HIEROGLYPH
 * FULL BLANK and HALF BLANK, MUSICAL SYMBOL NULL NOTEHEAD. To be used inside a character class.
 */
export const BLANK = '\\u{16fe4}\\u2800\\ufff9-\\ufffb\\u{13430}-\\u{13442}\\u{1d159}'
const VISIBLE = new RegExp(`[^\\p{White_Space}\\p{Cc}\\p{Default_Ignorable_Code_Point}${BLANK}]`, 'u')

/** Whether a text has a visible character. Unassigned code points count, because they may be new emoji. */
export const isVisible = (text: string) => VISIBLE.test(text)

/** Splits a comma-separated list. */
export const splitList = (text: string) => text.split(',').map((entry) => entry.trim())
