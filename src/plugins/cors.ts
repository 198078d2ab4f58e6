import fastifyCors from '@fastify/cors'
import fp from 'fastify-plugin'
import type { Config } from '../config.ts'
import { splitList } from '../lib/text.ts'

/**
 * Allows pages from the origins in `CORS_ORIGIN` to use the service. Without it there are no CORS headers.
 */
export default fp<{ config: Config }>(
  async (app, { config }) => {
    if (config.CORS_ORIGIN === undefined) return
    await app.register(fastifyCors, {
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
      maxAge: 600, // seconds
      strictPreflight: false // its error would have another shape than ours
    })
  },
  { name: 'cors' }
)
