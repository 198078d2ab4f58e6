// To Unicode and to Go, U+0085 is white space as well.
const SPACE = /[\s\u0085]/

/**
 * A text as this service writes it: without white space around it, and lone surrogates become U+FFFD, as in
 * Go's encoding/json.
 */
export function normalizeText(text: string): string {
  // Not by one expression for both ends, which would take quadratic time for a text with much space in its
  // middle.
  let start = 0
  let end = text.length
  while (start < end && SPACE.test(text.charAt(start))) start++
  while (end > start && SPACE.test(text.charAt(end - 1))) end--
  return text.slice(start, end).toWellFormed()
}

/**
 * Characters that fonts draw as nothing, though Unicode does not call them white space or ignorable: KHITAN
 * SMALL SCRIPT FILLER, BRAILLE PATTERN BLANK, annotation and hieroglyph controls, MUSICAL SYMBOL NULL
 * NOTEHEAD. For a class of a regular expression.
 */
export const BLANK = '\\u{16fe4}\\u2800\\ufff9-\\ufffb\\u{13430}-\\u{1343f}\\u{1d159}'
const VISIBLE = new RegExp(`[^\\p{White_Space}\\p{Cc}\\p{Default_Ignorable_Code_Point}${BLANK}]`, 'u')

/** Tells whether a reader sees anything of a text. An unassigned code point counts: it may be a new emoji. */
export const isVisible = (text: string) => VISIBLE.test(text)

/** The entries of a list with commas between. */
export const splitList = (text: string) => text.split(',').map((entry) => entry.trim())
