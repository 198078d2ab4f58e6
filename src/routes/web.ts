import { createHash } from 'node:crypto'
import { readdirSync } from 'node:fs'
import { readFile, stat } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { brotliCompress, constants, gzip } from 'node:zlib'
import { negotiate } from '@fastify/accept-negotiator'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { NoContent } from '../../schemas/errors.ts'
import { StaticFile } from '../../schemas/files.ts'
import { failures } from '../errors/catalogue.ts'

// `#web` is an import of package.json, because a relative path would differ between `src/` and `dist/src/`.
const root = fileURLToPath(new URL('.', import.meta.resolve('#web/index.html')))

// Only its own files and this service, no inline scripts, and no code that turns text into markup or scripts.
const headers = {
  'cache-control': 'no-cache', // revalidated each time
  vary: 'accept-encoding',
  'content-security-policy': [
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
}

const types: Record<string, string> = {
  html: 'text/html; charset=utf-8',
  css: 'text/css; charset=utf-8',
  js: 'text/javascript; charset=utf-8',
  svg: 'image/svg+xml'
}

const compressors = {
  br: (content: Buffer) =>
    // One step below the best, which takes four times as long for one percent.
    promisify(brotliCompress)(content, { params: { [constants.BROTLI_PARAM_QUALITY]: 9 } }),
  gzip: (content: Buffer) => promisify(gzip)(content, { level: 9 })
}
type Coding = keyof typeof compressors | 'identity'

/**
 * One file, ready to be sent. It is read and compressed when it is first asked for, and again once it has
 * changed. `@fastify/compress` would compress it for each request, `@fastify/static` only sends files that a
 * build has compressed, and `@fastify/etag` knows no lists of tags.
 */
class File {
  readonly #path: string
  readonly #change: (content: Buffer) => Buffer
  #version = ''
  #bodies = new Map<Coding, Promise<{ body: Buffer; etag: string }>>()

  constructor(path: string, change: (content: Buffer) => Buffer = (content) => content) {
    this.#path = path
    this.#change = change
  }

  async body(coding: Coding): Promise<{ body: Buffer; etag: string }> {
    const { mtimeMs, size } = await stat(this.#path)
    const version = `${mtimeMs} ${size}`
    if (version !== this.#version) {
      this.#version = version
      this.#bodies = new Map()
    }
    const bodies = this.#bodies
    const known = bodies.get(coding)
    if (known) return known
    const made = this.#make(coding)
    bodies.set(coding, made)
    made.catch(() => bodies.delete(coding))
    return made
  }

  async #make(coding: Coding) {
    const content = this.#change(await readFile(this.#path))
    const body = coding === 'identity' ? content : await compressors[coding](content)
    return { body, etag: `"${createHash('sha256').update(body).digest('base64url').slice(0, 22)}"` }
  }
}

/** Hides the button of the search, for a service whose search is off. */
const withoutSearch = (page: Buffer) => Buffer.from(`${page}`.replace(/<button\s+id="search"/, '$& hidden'))

/** The web client: the page at `/` and the files of `web/`. */
const web: FastifyPluginAsyncTypebox = async (app) => {
  const schema = { hide: true, response: { 200: StaticFile, 304: NoContent, ...failures() } }
  for (const path of readdirSync(root, { recursive: true, encoding: 'utf8' })) {
    const type = types[path.split('.')[1] ?? '']
    if (type === undefined) continue
    const name = path.replaceAll('\\', '/')
    const isPage = name === 'index.html'
    const file = new File(root + path, isPage && !app.messageSearch ? withoutSearch : undefined)
    app.get(isPage ? '/' : `/web/${name}`, { schema }, async (request, reply) => {
      const accepted = request.headers['accept-encoding']?.toLowerCase() ?? ''
      const coding = negotiate(accepted, ['br', 'gzip']) ?? 'identity'
      const { body, etag } = await file.body(coding)
      reply.headers({ ...headers, etag })
      const known = request.headers['if-none-match']?.split(',') ?? []
      if (known.some((tag) => tag.trim().replace(/^W\//, '') === etag)) return reply.code(304).send(null)
      if (coding !== 'identity') reply.header('content-encoding', coding)
      return reply.code(200).type(type).send(body)
    })
  }
}
export default web
