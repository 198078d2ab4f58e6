import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { NoContent } from '../../schemas/errors.ts'
import { DocsFile, DocsPage } from '../../schemas/openapi.ts'
import { Busy, failures } from '../errors.ts'

const { resolve } = createRequire(import.meta.url)

// All addresses are relative, so that the page works below any path that a proxy puts before them.
const PAGE = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>chat-backend</title>
<link rel="icon" href="docs/favicon-32x32.png">
<link rel="stylesheet" href="docs/swagger-ui.css">
<script src="docs/swagger-ui-bundle.js" defer></script>
<script src="docs/start.js" defer></script>
<div id="docs"></div>
</html>
`
const START = "SwaggerUIBundle({ url: 'openapi.json', dom_id: '#docs', deepLinking: true, tryItOutEnabled: true, displayRequestDuration: true, defaultModelsExpandDepth: 0 })\n"

// The page runs its own scripts and asks its own origin, and that is all. Swagger UI draws its icons from `data:`.
const POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

const JS = 'text/javascript; charset=utf-8'
const fromPackage = (name: string) => () => readFile(resolve(`swagger-ui-dist/${name}`))
const files: Record<string, [type: string, read: () => Promise<Buffer>]> = {
  'start.js': [JS, async () => Buffer.from(START)],
  'swagger-ui-bundle.js': [JS, fromPackage('swagger-ui-bundle.js')],
  'swagger-ui.css': ['text/css; charset=utf-8', fromPackage('swagger-ui.css')],
  'favicon-32x32.png': ['image/png', fromPackage('favicon-32x32.png')]
}

/** What this service answers to, for people: a page to read it and to try it, which needs nothing from elsewhere. */
const docs: FastifyPluginAsyncTypebox = async (app) => {
  const page = { operationId: 'readDocs', summary: 'This document as a page', tags: ['documents'], response: { 200: DocsPage, ...failures(Busy) } }
  app.get('/api/docs', { schema: page }, async (_request, reply) =>
    reply.code(200).headers({ 'content-type': 'text/html; charset=utf-8', 'content-security-policy': POLICY }).send(PAGE))

  const file = { hide: true, response: { 200: DocsFile, 304: NoContent, ...failures(Busy) } }
  for (const [name, [type, read]] of Object.entries(files)) {
    app.get(`/api/docs/${name}`, { schema: file }, async (request, reply) => {
      const bytes = await read()
      const etag = `"${createHash('sha256').update(bytes).digest('base64url')}"`
      reply.headers({ etag, 'content-type': type, 'cache-control': 'no-cache' }) // kept, but asked for each time, because the address outlives a release
      if (request.headers['if-none-match'] === etag) return reply.code(304).send(null)
      return reply.code(200).send(bytes)
    })
  }
}
export default docs
