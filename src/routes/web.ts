import { readdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import fastifyStatic from '@fastify/static'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { NoContent } from '../../schemas/errors.ts'
import { StaticFile } from '../../schemas/files.ts'
import { failures } from '../errors/catalogue.ts'

// By the name in package.json, because this file is at two depths: as it is written, and as it is built.
const root = fileURLToPath(new URL('.', import.meta.resolve('#web/index.html')))

// Nothing but its own files and this service; nothing that makes markup or code of a text, neither inline nor
// later.
const headers = {
  'cache-control': 'no-cache', // asked for each time, and 304 while it is the same
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

/** The web chat client: the files of `web/`, each at an address of its own, and the page at `/`. */
const web: FastifyPluginAsyncTypebox = async (app) => {
  await app.register(fastifyStatic, { root, serve: false, cacheControl: false })
  const schema = { hide: true, response: { 200: StaticFile, 304: NoContent, ...failures() } }
  const files = readdirSync(root, { recursive: true, encoding: 'utf8' })
  for (const path of files.filter((name) => /\.(html|css|js|svg)$/.test(name))) {
    const file = path.replaceAll('\\', '/')
    app.get(file === 'index.html' ? '/' : `/web/${file}`, { schema }, (_request, reply) => {
      reply.headers(headers).sendFile(file)
    })
  }
}
export default web
