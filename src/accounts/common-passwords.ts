import { dictionary } from '@zxcvbn-ts/language-common'

// 49,000 of the passwords that people used in leaks, in lower case; 17,000 of them have eight characters or
// more.
const common = new Set(dictionary['passwords-common'])

export const isCommonPassword = (password: string) => common.has(password.toLowerCase())
