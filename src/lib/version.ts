import { createRequire } from 'node:module'

/**
 * The version of this package. `#package.json` is an import of package.json, because a relative path would
 * differ between `src/` and `dist/src/`.
 */
export const { version }: { version: string } = createRequire(import.meta.url)('#package.json')
