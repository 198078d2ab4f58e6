import { readdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { FileContent } from '../../schemas/files.ts'
import { failures } from '../errors/catalogue.ts'
import { isServed, StaticFile } from '../http/static-file.ts'

// `#web` is an import of package.json, because a relative path would differ between `src/` and `dist/src/`.
const root = fileURLToPath(new URL('.', import.meta.resolve('#web/index.html')))

// Only its own files and this service, no inline scripts, and no code that turns text into markup or scripts.
const policy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self'",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
  "trusted-types 'none'"
].join('; ')
const headers = { 'content-security-policy': policy }

/** Hides the button of the search, for a service whose search is off. */
const withoutSearch = (page: Buffer) => Buffer.from(`${page}`.replace(/<button\s+id="search"/, '$& hidden'))

/** The web client: the page at `/` and the files of `web/`. */
const web: FastifyPluginAsyncTypebox = async (app) => {
  const schema = { hide: true, response: { 200: FileContent, ...failures() } }
  for (const path of readdirSync(root, { recursive: true, encoding: 'utf8' })) {
    if (!isServed(path)) continue
    const name = path.replaceAll('\\', '/')
    const isPage = name === 'index.html'
    const file = new StaticFile(root + path, isPage && !app.messageSearch ? { change: withoutSearch } : {})
    file.serve(app, isPage ? '/' : `/web/${name}`, schema, headers)
  }
}
export default web
