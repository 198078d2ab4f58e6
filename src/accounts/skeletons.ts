import { createHash } from 'node:crypto'
import { CONFUSABLES } from './confusables.ts'

// Loaded on first use, so that the start does not wait for it.
let prototypes: Map<string, string> | undefined

const toText = (points: string) => String.fromCodePoint(...points.split('+').map((hex) => parseInt(hex, 16)))

function readPrototypes(): Map<string, string> {
  const found = new Map<string, string>()
  for (const line of CONFUSABLES.replaceAll('\n ', ' ').trim().split('\n')) {
    const [prototype = '', sources = ''] = line.split(': ')
    for (const source of sources.split(' ')) found.set(toText(source), toText(prototype))
  }
  return found
}

function prototypeOf(point: string): string {
  prototypes ??= readPrototypes()
  return prototypes.get(point) ?? point
}

/**
 * Computes the skeleton of a text: texts that look alike have the same one. This is `internalSkeleton` of UTS
 * 39, which ignores the reordering of right-to-left text.
 * https://www.unicode.org/reports/tr39/#Confusable_Detection
 */
export function skeleton(text: string): string {
  const visible = text.normalize('NFD').replace(/\p{Default_Ignorable_Code_Point}/gu, '')
  return Array.from(visible, prototypeOf).join('').normalize('NFD')
}

// JavaScript has no case folding. Both directions are needed, because of letters such as ß, ẞ and SS.
const foldCase = (text: string) => text.toLowerCase().toUpperCase().toLowerCase()

const isCapital = (point: string) => point !== point.toLowerCase()

/** Replaces capitals by what they look like. I stays, because its prototype, l, is not a capital. */
function prototypesOfCapitals(text: string): string {
  return Array.from(text, (point) => {
    if (!isCapital(point)) return point
    const prototype = prototypeOf(point)
    return prototype === 'l' ? 'I' : prototype
  }).join('')
}

/**
 * Two nicknames are too similar if they share one of these digests. (A skeleton itself can be too long for an
 * index.)
 *
 * UTS 39 compares texts as written. Nicknames must differ in more than their case, which takes three
 * skeletons:
 * 1. of the nickname in lower case: `ADMIN`, and `аdmin` with a Cyrillic а, look like `admin`;
 * 2. of the nickname as it is written: `PayPaI` with a capital I looks like `Paypal`;
 * 3. of the nickname in lower case, after its capitals became those that they look like, and full-width
 *    letters (which UTS 39 maps only in part) ordinary ones: `АDМІN` with the Cyrillic А, М and І looks like
 *    `ADMIN`, though not in lower case.
 */
export function skeletonDigests(nickname: string): Buffer[] {
  const skeletons = [
    skeleton(foldCase(nickname)),
    skeleton(foldCase(skeleton(nickname))),
    skeleton(foldCase(prototypesOfCapitals(nickname).normalize('NFKC')))
  ].map((text) => text.replace(/\p{White_Space}+/gu, ' ').trim()) // as HTML renders it
  return [...new Set(skeletons)].map((text) => createHash('sha256').update(text).digest().subarray(0, 16))
}
