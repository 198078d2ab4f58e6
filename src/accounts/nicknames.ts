import { MAX_NICKNAME } from '../../schemas/accounts.ts'
import { BLANK, normalizeText } from '../lib/text.ts'

// In UTF-16 units. NFC shortens a text only by composing, and no code point decomposes into more than four
// (https://www.unicode.org/faq/normalization.html#12) of at most two units each. So a text longer than this
// is too long in NFC as well. Do not normalise it to find out: `normalize` takes quadratic time for a run of
// combining marks, more than a second for 63 KB of them, but a third of a millisecond for 1 KB.
const MAX_UNITS = MAX_NICKNAME * 4 * 2

/**
 * Normalises a nickname for storage: trimmed, well-formed, NFC. A nickname that is too long stays too long.
 */
export function normalizeNickname(nickname: string): string {
  const text = normalizeText(nickname)
  return text.length > MAX_UNITS ? text : text.normalize('NFC')
}

// Characters that are invisible, or rendered differently on each device. Node's ICU decides which code points
// are unassigned, and so in \p{C}: Node 20.20, 24 and 26 know Unicode 17. A replica with a newer ICU accepts
// letters that an older one refuses. That is harmless, because a nickname is checked once, at registration.
const ILLEGIBLE = new RegExp(`[\\p{C}\\p{Zl}\\p{Zp}\\p{Default_Ignorable_Code_Point}${BLANK}]`, 'u')
const MARK_WITHOUT_BASE = /(?:^|\p{Z})\p{M}/u
const STACKED_MARKS = /\p{M}{5}/u

/** Whether every reader sees the whole nickname. @param nickname normalised */
export const isLegible = (nickname: string) =>
  ![ILLEGIBLE, MARK_WITHOUT_BASE, STACKED_MARKS].some((rule) => rule.test(nickname))

/** The spellings under which a nickname is looked up. */
export interface NicknameLookup {
  /** As typed: the Go service and Django do not normalise nicknames. It takes precedence. */
  typed: string
  /** As this service stores it. All spellings of a nickname share it, so rate limits count by it. */
  normal: string
}

/** The spellings to look up at a login. NUL becomes U+FFFD: PostgreSQL's text cannot hold it. */
export function lookupNickname(nickname: string): NicknameLookup {
  const typed = nickname.toWellFormed().replaceAll('\0', '\ufffd')
  return { typed, normal: normalizeNickname(typed) }
}
