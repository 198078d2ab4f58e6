import type { Query } from '../database/query.ts'
import { StartError } from '../lib/start-error.ts'

/** Gives the stems of a word that are different from it. */
export type Stems = (word: string) => readonly string[]

// What most texts use over and over.
const MAX_KNOWN = 50_000
// Words at a time, so that a statement takes some milliseconds.
const PART = 2000

const STEMS = `
  select word, array(
    select distinct stem
    from unnest($2::text[]) dictionary, unnest(ts_lexize(dictionary::regdictionary, word)) stem
    where stem <> word
  ) as stems from unnest($1::text[]) word`

const DICTIONARIES = `
  select left(dictname, -5) as language from pg_catalog.pg_ts_dict
  where dictname like '%\\_stem' and dictnamespace = 'pg_catalog'::regnamespace order by dictname`

/** Finds the stems of words, by the dictionaries that PostgreSQL has for some languages. */
export class Stemmer {
  #dictionaries: string[]
  #known = new Map<string, readonly string[]>()

  constructor(languages: readonly string[]) {
    this.#dictionaries = languages.map((language) => `pg_catalog.${language}_stem`)
  }

  /**
   * Looks up the stems of some words.
   * @throws {DatabaseUnavailable}
   */
  async lookUp(query: Query, words: Iterable<string>): Promise<Stems> {
    const found = new Map<string, readonly string[]>()
    const unknown: string[] = []
    for (const word of new Set(words)) {
      const stems = this.#dictionaries.length === 0 ? [] : this.#known.get(word)
      if (stems === undefined) unknown.push(word)
      else found.set(word, stems)
    }
    for (let from = 0; from < unknown.length; from += PART) {
      const part = unknown.slice(from, from + PART)
      if (this.#known.size + part.length > MAX_KNOWN) this.#known.clear()
      const rows = await query<{ word: string; stems: string[] }>(STEMS, [part, this.#dictionaries])
      for (const { word, stems } of rows) {
        this.#known.set(word, stems)
        found.set(word, stems)
      }
    }
    return (word) => found.get(word) ?? []
  }
}

/**
 * @throws {StartError} where PostgreSQL has no stemmer for one of these languages
 */
export async function checkLanguages(query: Query, languages: readonly string[]): Promise<void> {
  const rows = await query<{ language: string }>(DICTIONARIES, [])
  const known = rows.map(({ language }) => language)
  const unknown = languages.find((language) => !known.includes(language))
  if (unknown === undefined) return
  throw new StartError(
    `SEARCH_LANGUAGES names ${unknown}, but PostgreSQL has stemmers for ${known.join(', ')} only`
  )
}
