import { splitList } from './text.ts'

/**
 * The languages by whose stems messages are found: none for `simple`, or `off` for no search.
 * @throws {Error} when the text is neither of these nor a list of names
 */
export function parseLanguages(text: string): string[] | 'off' {
  const names = splitList(text.toLowerCase())
  if (names.length === 1 && names[0] === 'off') return 'off'
  if (names.length === 1 && names[0] === 'simple') return []
  if (!names.every((name) => /^[a-z]+$/.test(name) && name !== 'off' && name !== 'simple')) {
    throw new Error('not a list of languages')
  }
  return [...new Set(names)]
}
