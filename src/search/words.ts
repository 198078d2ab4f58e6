/** Code points of a text that are indexed: twice what can be posted here, because other programs post too. */
export const MAX_INDEXED = 4000
/** Code points of a word; the rest of a longer one is left out, of a text as of a query. */
const MAX_WORD = 100

// An emoji is a word of its own: also a keycap such as 1️⃣, and a flag, which is two regional indicators.
const WORD =
  /[\d#*]\ufe0f?\u20e3|[\p{L}\p{N}][\p{L}\p{N}\p{M}]*|\p{Extended_Pictographic}|\p{Regional_Indicator}{2}/gu
// They select how the character before them is displayed, as an emoji or as text.
const VARIATION_SELECTORS = /[\ufe0e\ufe0f]/g

/**
 * The words of a text, in order and in their normal form: lower case, compatibility characters replaced
 * (NFKC), and `ё` as `е`, because most people write it so. PostgreSQL's own parser is not used: whether it
 * knows letters other than ASCII depends on the locale of the database, and it takes `and/or` for the name of
 * a file.
 */
export function wordsOf(text: string): string[] {
  return Array.from(text.matchAll(WORD), ([word]) => normalWord(word))
}

function normalWord(word: string): string {
  // Cut before as well, because to normalise a long run of combining marks takes quadratic time.
  const normal = firstOf(word)
    .normalize('NFKC')
    .replace(VARIATION_SELECTORS, '')
    .toLowerCase()
    .replaceAll('ё', 'е')
  return firstOf(normal)
}

const firstOf = (word: string) =>
  word.length <= MAX_WORD ? word : [...word.slice(0, 2 * MAX_WORD)].slice(0, MAX_WORD).join('')
