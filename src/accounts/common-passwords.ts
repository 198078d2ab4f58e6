import { dictionary } from '@zxcvbn-ts/language-common'

// The 49,000 most common passwords of leaks, in lower case; 17,000 of them have at least eight characters.
const common = new Set(dictionary['passwords-common'])

export const isCommonPassword = (password: string) => common.has(password.toLowerCase())
