import { randomUUID } from 'node:crypto'
import { type FastifyReply, type FastifyRequest, LogController } from 'fastify'

/** The id of a request: the caller's `X-Request-Id` when it is short and plain, else a new one. */
export function requestId(request?: { headers: Record<string, string | string[] | undefined> }): string {
  const given = request?.headers['x-request-id']
  return typeof given === 'string' && /^[\w.:/+=-]{1,128}$/.test(given) ? given : randomUUID()
}

// One for all, because the reason that Node makes up each time is an error with a stack.
const OVER = new Error('the answer is over')

/**
 * Aborts when the answer is over: before it has begun, because its client went away; or after that many
 * milliseconds. Fastify's own `request.signal` aborts when the body has been read (seen in 5.12), and what
 * `AbortSignal.any` makes of a signal with a timeout may be forgotten before it is due (seen in Node 20:
 * https://github.com/nodejs/node/issues/57736).
 */
export function answerOver({ raw }: FastifyReply, afterMs?: number): AbortSignal {
  const controller = new AbortController()
  const timer = afterMs === undefined ? undefined : setTimeout(() => controller.abort(OVER), afterMs)
  const abort = () => {
    clearTimeout(timer)
    controller.abort(OVER)
  }
  if (raw.destroyed) abort()
  raw.once('close', abort)
  return controller.signal
}

/**
 * One log line for each completed request, with the route's pattern instead of its address, and never a
 * header or a body.
 */
export class RequestLog extends LogController {
  override incomingRequest() {}
  override routeNotFound() {}
  override requestCompleted(_error: unknown, request: FastifyRequest, reply: FastifyReply) {
    const {
      method,
      routeOptions: { url: route = 'unknown' }
    } = request
    request.log.info(
      {
        requestId: request.id,
        method,
        route,
        status: reply.statusCode,
        durationMs: Math.round(reply.elapsedTime * 10) / 10
      },
      'request completed'
    )
  }
}
