import { createServer } from 'node:http'
import Fastify from 'fastify'

// What no service can do better: a route that answers with bytes that are there, of Fastify without a logger
// (`bare`), or of Node alone (`node`). A poll gets an empty page, as text, which is the faster way for that.

const { LIMIT, PAGE_URL = '', HTTP_PORT } = process.env
const page = Buffer.from(await (await fetch(PAGE_URL)).arrayBuffer())
const answerTo = (url = '') => {
  const body = url.includes('after_id') ? '[]' : page
  return {
    body,
    headers: { 'content-type': 'application/json; charset=utf-8', 'content-length': body.length }
  }
}

if (LIMIT === 'bare') {
  const app = Fastify({ requestTimeout: 10_000 })
  app.get('/*', async (request, reply) => {
    const { headers, body } = answerTo(request.url)
    return reply.headers(headers).send(body)
  })
  await app.listen({ port: Number(HTTP_PORT), host: '127.0.0.1' })
} else {
  createServer((request, response) => {
    const { headers, body } = answerTo(request.url)
    response.writeHead(200, headers).end(body)
  }).listen(Number(HTTP_PORT), '127.0.0.1')
}
process.on('SIGTERM', () => process.exit())
