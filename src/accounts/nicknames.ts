import { MAX_NICKNAME } from '../../schemas/accounts.ts'
import { BLANK, normalizeText } from '../lib/text.ts'

// In UTF-16 units. NFC makes a text shorter only by composing, and no code point decomposes into more than
// four (https://www.unicode.org/faq/normalization.html#12), of at most two units each: what is longer than
// this is longer than a nickname in form NFC, too. It must not be normalised to find that out, because
// `normalize` takes quadratic time for a run of combining marks: 63 KB of them take more than a second, 1 KB
// a third of a millisecond.
const MAX_UNITS = MAX_NICKNAME * 4 * 2

/**
 * A nickname as this service stores it: trimmed, well-formed, in form NFC. What is too long stays too long.
 */
export function normalizeNickname(nickname: string): string {
  const text = normalizeText(nickname)
  return text.length > MAX_UNITS ? text : text.normalize('NFC')
}

// What nobody sees, or what each device draws in its own way. Which code points are unassigned, and so in
// \p{C}, is up to the ICU of Node: Node 20.20, 24 and 26 know Unicode 17. With a newer ICU, a replica takes
// letters that an older one refuses. That harms nobody: a nickname is judged once, when it is registered.
const ILLEGIBLE = new RegExp(`[\\p{C}\\p{Zl}\\p{Zp}\\p{Default_Ignorable_Code_Point}${BLANK}]`, 'u')
const MARK_WITHOUT_BASE = /(?:^|\p{Z})\p{M}/u
const STACKED_MARKS = /\p{M}{5}/u

/** Tells whether everybody who reads a nickname sees all of it. @param nickname in its normal form */
export const isLegible = (nickname: string) =>
  ![ILLEGIBLE, MARK_WITHOUT_BASE, STACKED_MARKS].some((rule) => rule.test(nickname))

/** The spellings under which the database is asked for a nickname. */
export interface NicknameLookup {
  /** As typed: the Go service and Django store nicknames as they come. It wins over the other. */
  typed: string
  /** As this service stores it. All spellings that find the same user share it, so limits count by it. */
  normal: string
}

/** Tells what the database is asked for when somebody logs in. PostgreSQL's text cannot hold NUL. */
export function lookupNickname(nickname: string): NicknameLookup {
  const typed = nickname.toWellFormed().replaceAll('\0', '\ufffd')
  return { typed, normal: normalizeNickname(typed) }
}
