import { randomUUID } from 'node:crypto'
import { type FastifyReply, type FastifyRequest, LogController } from 'fastify'
import type { Config } from '../config.ts'

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

/** How long a request may take before it is logged in any case. */
const SLOW_MS = 1000
const READING_METHODS = new Set(['GET', 'HEAD', 'OPTIONS'])

/**
 * Logs completed requests, one line each, with the route's pattern instead of the path, and never a header or
 * a body. By default these are writes, errors and slow requests: the line of a successful read would cost
 * half as much as reading itself.
 */
export class RequestLog extends LogController {
  #logged: Config['LOG_REQUESTS']

  constructor(logged: Config['LOG_REQUESTS']) {
    super({ requestIdLogLabel: 'requestId' })
    this.#logged = logged
  }

  override incomingRequest() {}
  override routeNotFound() {}
  override requestCompleted(_error: unknown, request: FastifyRequest, reply: FastifyReply) {
    if (!this.#isLogged(request, reply)) return
    const { method, routeOptions, userId } = request
    request.log.info(
      {
        method,
        route: routeOptions.url ?? 'unknown',
        status: reply.statusCode,
        durationMs: Math.round(reply.elapsedTime * 10) / 10,
        ...(userId > 0 && { userId })
      },
      'request completed'
    )
  }

  #isLogged({ method, routeOptions, waitedMs }: FastifyRequest, reply: FastifyReply): boolean {
    if (this.#logged !== 'changes') return this.#logged === 'all'
    if (reply.statusCode >= 400 || !READING_METHODS.has(method)) return true
    return reply.elapsedTime - waitedMs >= SLOW_MS && !routeOptions.config.isStream
  }
}
