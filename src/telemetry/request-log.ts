import { type FastifyReply, type FastifyRequest, LogController } from 'fastify'
import type { Config } from '../config.ts'
import { routeOf } from './route.ts'

/** Requests that take longer are always logged. */
const SLOW_MS = 1000
const READING_METHODS = new Set(['GET', 'HEAD', 'OPTIONS'])

/**
 * Logs completed requests, one line each, with the route's pattern instead of the path, and never a header or
 * a body. By default only writes, errors and slow requests are logged: a line for each successful read would
 * cost half as much as the read itself.
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
    const { method, userId } = request
    request.log.info(
      {
        method,
        route: routeOf(request) ?? 'unknown',
        status: reply.statusCode,
        durationMs: Math.round(reply.elapsedTime * 10) / 10,
        ...(userId > 0 && { userId })
      },
      'request completed'
    )
  }

  #isLogged(request: FastifyRequest, reply: FastifyReply): boolean {
    if (this.#logged !== 'changes') return this.#logged === 'all'
    if (!READING_METHODS.has(request.method)) return true
    // A client that leaves a read, such as a long poll, is no error.
    if (reply.statusCode >= 400 && reply.statusCode !== 499) return true
    return reply.elapsedTime - request.waitedMs >= SLOW_MS && !request.routeOptions.config.isStream
  }
}
