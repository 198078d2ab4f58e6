import type { OutgoingHttpHeaders } from 'node:http'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { EventsHeaders, EventsQuery, EventStream } from '../../schemas/events.ts'
import { noSecurity } from '../../schemas/openapi.ts'
import { failures, validationFailures } from '../errors/catalogue.ts'
import { abortOnClose } from '../http/abort-on-close.ts'

/** The event stream of the room (SSE). */
const events: FastifyPluginAsyncTypebox = async (app) => {
  const { streams } = app.room
  const schema = {
    operationId: 'streamEvents',
    summary: 'Follow the room live',
    tags: ['events'],
    description:
      'Sends every change as a server-sent event, in one order for all clients. Resumes after `since` or ' +
      '`Last-Event-ID` without a gap or a duplicate; a comment every 15 seconds keeps the connection alive.',
    security: noSecurity,
    querystring: EventsQuery,
    headers: EventsHeaders,
    response: { 200: EventStream, ...failures(...validationFailures(EventsQuery)) }
  }
  // No HEAD route, which would wait for the end of the stream.
  app.get(
    '/api/events',
    { schema, exposeHeadRoute: false, config: { isStream: true } },
    async (request, reply) => {
      const { 'last-event-id': last } = request.headers
      const since = last ? (/^\d{1,15}$/.test(last) ? Number(last) : -1) : request.query.since
      reply
        .headers({
          'content-type': 'text/event-stream; charset=utf-8',
          'cache-control': 'no-cache, no-transform',
          'x-accel-buffering': 'no',
          connection: 'close'
        })
        .hijack()
      // Fastify's type is the same, plus `undefined`.
      reply.raw.writeHead(200, reply.getHeaders() as OutgoingHttpHeaders)
      reply.raw.flushHeaders()
      request.raw.resume() // an unread body would hide that the client is gone
      if (request.isBeyondLimit) return streams.refuse(reply.raw)
      streams.open(reply.raw, since, {
        address: request.clientAddress,
        isCounted: !request.isBehindUnknownProxy,
        signal: abortOnClose(reply)
      })
    }
  )
}
export default events
