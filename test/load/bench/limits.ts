import { createServer } from 'node:http'
import Fastify from 'fastify'

// What no service can do better: a route that answers with bytes that are there, of Fastify without a logger
// (`bare`), or of Node alone (`node`).

const { LIMIT, PAGE_URL = '', HTTP_PORT } = process.env
const page = Buffer.from(await (await fetch(PAGE_URL)).arrayBuffer())
const headers = { 'content-type': 'application/json; charset=utf-8', 'content-length': page.length }

if (LIMIT === 'bare') {
  const app = Fastify({ requestTimeout: 10_000 })
  app.get('/*', async (_request, reply) => reply.headers(headers).send(page))
  await app.listen({ port: Number(HTTP_PORT), host: '127.0.0.1' })
} else {
  createServer((_request, response) => response.writeHead(200, headers).end(page)).listen(
    Number(HTTP_PORT),
    '127.0.0.1'
  )
}
process.on('SIGTERM', () => process.exit())
