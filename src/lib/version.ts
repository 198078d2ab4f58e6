import { createRequire } from 'node:module'

/**
 * Of this package. By a name in package.json, because this file is at two depths: as it is written, and as it
 * is built.
 */
export const { version }: { version: string } = createRequire(import.meta.url)('#package.json')
