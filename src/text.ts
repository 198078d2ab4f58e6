// To Unicode and to Go, U+0085 is white space as well.
const SPACE = /[\s\u0085]/

/** A text as this service writes it: without white space around it, and lone surrogates become U+FFFD, as in Go's encoding/json. */
export function normalText (text: string): string {
  // Not by one expression for both ends, which would take quadratic time for a text with much space in its middle.
  let start = 0
  let end = text.length
  while (start < end && SPACE.test(text.charAt(start))) start++
  while (end > start && SPACE.test(text.charAt(end - 1))) end--
  return text.slice(start, end).toWellFormed()
}
