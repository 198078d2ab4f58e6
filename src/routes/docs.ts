import { fileURLToPath } from 'node:url'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { FileContent } from '../../schemas/files.ts'
import { DocsPage, noSecurity } from '../../schemas/openapi.ts'
import { Busy, failures } from '../errors/catalogue.ts'
import { StaticFile } from '../http/static-file.ts'

const root = fileURLToPath(new URL('.', import.meta.resolve('swagger-ui-dist/swagger-ui.css')))

// All URLs are relative, so the page also works under a path prefix of a proxy.
const html = (base: string) => `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>chat-backend</title>
<link rel="icon" href="${base}docs/favicon-32x32.png">
<link rel="stylesheet" href="${base}docs/swagger-ui.css">
<script src="${base}docs/swagger-ui-bundle.js" defer></script>
<script src="${base}docs/start.js" defer></script>
<div id="docs"></div>
</html>
`
const START = `SwaggerUIBundle({
  url: new URL('../openapi.json', document.currentScript.src).href,
  dom_id: '#docs',
  deepLinking: true,
  tryItOutEnabled: true,
  displayRequestDuration: true,
  defaultModelsExpandDepth: 0
})
`

/**
 * The relative URL of the page's folder. To a browser, each trailing slash of the page's URL is one folder
 * more.
 */
function baseOf(url: string): string {
  const [path = ''] = url.split('?', 1)
  let end = path.length
  while (path[end - 1] === '/') end--
  return '../'.repeat(path.length - end)
}

// Only scripts and requests of its own origin. Swagger UI has its icons in `data:` URLs.
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' data:",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'"
].join('; ')

/**
 * The API reference: Swagger UI, served by this service, so that it works offline.
 */
const docs: FastifyPluginAsyncTypebox = async (app) => {
  const page = {
    operationId: 'getApiReference',
    summary: 'API reference',
    tags: ['documentation'],
    description: 'This document as a page where you can try out requests. It works offline.',
    security: noSecurity,
    response: { 200: DocsPage, ...failures(Busy) }
  }
  app.get('/api/docs', { schema: page }, async (request, reply) =>
    reply
      .code(200)
      .headers({ 'content-type': 'text/html; charset=utf-8', 'content-security-policy': POLICY })
      .send(html(baseOf(request.url)))
  )

  const file = { hide: true, response: { 200: FileContent, ...failures(Busy) } }
  app.get('/api/docs/start.js', { schema: file }, async (_request, reply) =>
    reply.code(200).header('content-type', 'text/javascript; charset=utf-8').send(START)
  )
  for (const name of ['swagger-ui-bundle.js', 'swagger-ui.css', 'favicon-32x32.png']) {
    // To compress 1.4 MB that few people ask for would cost more than it saves.
    new StaticFile(root + name, { isCompressed: false }).serve(app, `/api/docs/${name}`, file)
  }
}
export default docs
