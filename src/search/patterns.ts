import type { Stems } from './stemmer.ts'
import { wordsOf } from './words.ts'

/**
 * Stands where a word belongs to a segment: messages are indexed in segments of 65,536 ids, and the number of
 * its segment precedes each word in the index. `chat_search` of src/database/migrations.ts puts it there.
 */
const SEGMENT = '\u0001'
const QUOTE = /["“”„«»]/
// So many words begin with one letter that they would take long to find.
const MIN_PREFIX = 2

/** A word of a query, or words in quotes, which follow each other. */
interface Term {
  words: string[]
  isQuoted: boolean
  /** Whether its last word may go on. */
  isOpen: boolean
}

/** A query in the language of PostgreSQL, with the segment left open: src/database/migrations.ts. */
export interface Pattern {
  all: string
  /**
   * All but an open last word: thousands of words may begin with it, while few messages have the others.
   * Null where that leaves nothing, or no word is open.
   */
  needed: string | null
}

const lexeme = (word: string) => `'${SEGMENT}${word.replace(/['\\]/g, '$&$&')}'`

/**
 * The index entry of a message, as text of a `tsvector`. Words as they are written have the weight A, so that
 * words in quotes are not found by their stems.
 */
export function vectorOf(words: readonly string[], stems: Stems): string {
  const positions = new Map<string, string[]>()
  const add = (word: string, position: string) => {
    const known = positions.get(word)
    if (known) known.push(position)
    else positions.set(word, [position])
  }
  for (const [index, word] of words.entries()) {
    add(word, `${index + 1}A`)
    for (const stem of stems(word)) add(stem, `${index + 1}`)
  }
  return Array.from(positions, ([word, at]) => `${lexeme(word)}:${at.join(',')}`).join(' ')
}

/** Splits a query into its terms. Anything but words and quotes is ignored, so any text is a query. */
export function termsOf(text: string): Term[] {
  const parts = text.split(QUOTE)
  const terms = parts.flatMap((part, index): Term[] => {
    const words = wordsOf(part)
    const isQuoted = index % 2 === 1
    if (!isQuoted) return words.map((word) => ({ words: [word], isQuoted, isOpen: false }))
    return words.length > 0 ? [{ words, isQuoted, isOpen: false }] : []
  })
  const last = terms.at(-1)
  const isClosed = last?.isQuoted === true && parts.length % 2 === 1
  if (last !== undefined && !isClosed) last.isOpen = [...(last.words.at(-1) ?? '')].length >= MIN_PREFIX
  return terms
}

/** Makes the pattern of a query, of which all terms must be found. There must be one. */
export function patternOf(terms: readonly Term[], stems: Stems): Pattern {
  const all = terms.map((term) => toPattern(term, stems))
  const needed = all.filter((_, index) => !terms[index]?.isOpen)
  return {
    all: all.join(' & '),
    needed: needed.length > 0 && needed.length < all.length ? needed.join(' & ') : null
  }
}

function toPattern({ words, isQuoted, isOpen }: Term, stems: Stems): string {
  const prefix = (index: number) => (isOpen && index === words.length - 1 ? '*' : '')
  if (isQuoted) return `(${words.map((word, index) => `${lexeme(word)}:${prefix(index)}A`).join(' <-> ')})`
  const ways = words.flatMap((word, index) => {
    const mark = prefix(index)
    return [`${lexeme(word)}${mark && `:${mark}`}`, ...stems(word).map(lexeme)]
  })
  return `(${ways.join(' | ')})`
}
