import fastifyCors, { type FastifyCorsOptions } from '@fastify/cors'
import type { FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import type { Config } from '../config.ts'
import { splitList } from '../lib/text.ts'

/** As browsers send it (https://fetch.spec.whatwg.org/#cors-preflight-request). */
const isPreflight = ({ method, headers }: FastifyRequest) =>
  method === 'OPTIONS' &&
  headers.origin !== undefined &&
  headers['access-control-request-method'] !== undefined

/**
 * Allows pages from the origins in `CORS_ORIGIN` to use the service. Without it there are no CORS headers.
 * Only preflights are answered here; any other OPTIONS is refused as usual.
 */
export default fp<{ config: Config }>(
  async (app, { config }) => {
    if (config.CORS_ORIGIN === undefined) return
    const preflight: FastifyCorsOptions = {
      origin: splitList(config.CORS_ORIGIN),
      methods: ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'],
      allowedHeaders: ['authorization', 'content-type', 'idempotency-key', 'last-event-id', 'x-request-id'],
      exposedHeaders: [
        'age',
        'idempotency-replayed',
        'ratelimit',
        'ratelimit-policy',
        'retry-after',
        'x-event-cursor',
        'x-request-id',
        'x-search-incomplete',
        'x-search-next',
        'x-stale'
      ],
      maxAge: 600 // seconds
    }
    const other = { ...preflight, preflight: false }
    await app.register(fastifyCors, {
      delegator: (request, done) => done(null, isPreflight(request) ? preflight : other)
    })
  },
  { name: 'cors' }
)
