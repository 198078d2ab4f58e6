import { createRequire } from 'node:module'
import type { dictionary } from '@zxcvbn-ts/language-common'

const require = createRequire(import.meta.url)
let common: Set<string> | undefined

/**
 * The 49,000 most common passwords of leaks, in lower case; 17,000 of them have at least eight characters.
 * They are loaded for the first registration, and not at the start, because that takes 25 ms and 5 MB.
 */
function load(): Set<string> {
  const language = require('@zxcvbn-ts/language-common') as { dictionary: typeof dictionary } // untyped
  return new Set(language.dictionary['passwords-common'])
}

export const isCommonPassword = (password: string): boolean => (common ??= load()).has(password.toLowerCase())
