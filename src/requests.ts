import { randomUUID } from 'node:crypto'
import { type FastifyReply, type FastifyRequest, LogController } from 'fastify'

/** The id of a request: the caller's `X-Request-Id` when it is short and plain, else a new one. */
export function requestId (request?: { headers: Record<string, string | string[] | undefined> }): string {
  const given = request?.headers['x-request-id']
  return typeof given === 'string' && /^[\w.:/+=-]{1,128}$/.test(given) ? given : randomUUID()
}

/** One log line for each completed request, with the route's pattern instead of its address, and never a header or a body. */
export class RequestLog extends LogController {
  override incomingRequest () {}
  override routeNotFound () {}
  override requestCompleted (_error: unknown, request: FastifyRequest, reply: FastifyReply) {
    const { method, routeOptions: { url: route = 'unknown' } } = request
    request.log.info({ method, route, status: reply.statusCode, durationMs: Math.round(reply.elapsedTime * 10) / 10 }, 'request completed')
  }
}
