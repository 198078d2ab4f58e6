import { createHash } from 'node:crypto'
import { readFile, stat } from 'node:fs/promises'
import { extname } from 'node:path'
import { promisify } from 'node:util'
import { brotliCompress, constants, gzip } from 'node:zlib'
import { negotiate } from '@fastify/accept-negotiator'
import type { FastifyInstance, FastifyReply, FastifyRequest, FastifySchema } from 'fastify'

const types: Record<string, string> = {
  html: 'text/html; charset=utf-8',
  css: 'text/css; charset=utf-8',
  js: 'text/javascript; charset=utf-8',
  svg: 'image/svg+xml',
  png: 'image/png'
}

const typeOf = (path: string) => types[extname(path).slice(1)]

const compressors = {
  br: (content: Buffer) =>
    // One step below the best, which takes four times as long for one percent.
    promisify(brotliCompress)(content, { params: { [constants.BROTLI_PARAM_QUALITY]: 9 } }),
  gzip: (content: Buffer) => promisify(gzip)(content, { level: 9 })
}
type Coding = keyof typeof compressors | 'identity'

/** Whether the client has a file already, by its `If-None-Match` (RFC 9110, 13.1.2). */
function isKnown(ifNoneMatch: string | undefined, etag: string): boolean {
  const tags = ifNoneMatch?.split(',').map((tag) => tag.trim().replace(/^W\//, '')) ?? []
  return tags.includes(etag) || ifNoneMatch === '*'
}

/** Whether the type of a file is known, by its name. */
export const isServed = (path: string): boolean => typeOf(path) !== undefined

/**
 * One file, ready to be sent. It is read and compressed when it is first asked for, and again once it has
 * changed. Browsers keep it, but ask each time whether it is still the same, because its URL does not change
 * with a release. `@fastify/compress` would compress it for each request, `@fastify/etag` knows no lists of
 * tags, and `@fastify/static` only sends files that a build has compressed.
 */
export class StaticFile {
  readonly #path: string
  readonly #change: (content: Buffer) => Buffer
  readonly #isCompressed: boolean
  #version = ''
  #bodies = new Map<Coding, Promise<{ body: Buffer; etag: string }>>()

  /**
   * @param options.change is made to the content before it is sent
   * @param options.isCompressed whether it is compressed for whoever accepts that, which is the default
   */
  constructor(
    path: string,
    {
      change = (content) => content,
      isCompressed = true
    }: { change?: (content: Buffer) => Buffer; isCompressed?: boolean } = {}
  ) {
    this.#path = path
    this.#change = change
    this.#isCompressed = isCompressed
  }

  /**
   * Declares the routes of the file. The one for HEAD is not left to Fastify, which would add
   * `Content-Length: 0` to a 304.
   */
  serve(
    app: FastifyInstance,
    url: string,
    schema: FastifySchema,
    headers: Record<string, string> = {}
  ): void {
    const handler = (request: FastifyRequest, reply: FastifyReply) => this.#send(request, reply, headers)
    app.head(url, { schema }, handler)
    app.get(url, { schema }, handler)
  }

  /** Answers with the file, or with 304 if the client has it. */
  async #send(
    request: FastifyRequest,
    reply: FastifyReply,
    headers: Record<string, string>
  ): Promise<FastifyReply> {
    const accepted = this.#isCompressed ? request.headers['accept-encoding'] : undefined
    const coding = negotiate(accepted?.toLowerCase() ?? '', ['br', 'gzip']) ?? 'identity'
    const { body, etag } = await this.#body(coding)
    reply.headers({ ...headers, 'cache-control': 'no-cache', etag })
    if (this.#isCompressed) reply.header('vary', 'accept-encoding')
    // Without a payload, not even null: it would be serialised, and give the response a type and a length.
    if (isKnown(request.headers['if-none-match'], etag)) return reply.code(304).send()
    if (coding !== 'identity') reply.header('content-encoding', coding)
    return reply
      .code(200)
      .type(typeOf(this.#path) ?? 'application/octet-stream')
      .send(body)
  }

  async #body(coding: Coding): Promise<{ body: Buffer; etag: string }> {
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
