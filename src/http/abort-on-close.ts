import type { FastifyReply } from 'fastify'

// Shared, because the default reason of `abort()` is a new error with a stack each time.
const CLOSED = new Error('the response is closed')

/**
 * Returns a signal that aborts when the response is closed (sent, or given up because the client went away),
 * or after `timeoutMs`.
 *
 * Fastify's `request.signal` aborts as soon as the body has been read (seen in 5.12). `AbortSignal.any` may
 * lose a timeout before it is due (Node 20: https://github.com/nodejs/node/issues/57736).
 */
export function abortOnClose({ raw }: FastifyReply, timeoutMs?: number): AbortSignal {
  const controller = new AbortController()
  const timer = timeoutMs === undefined ? undefined : setTimeout(() => controller.abort(CLOSED), timeoutMs)
  const abort = () => {
    clearTimeout(timer)
    controller.abort(CLOSED)
  }
  if (raw.destroyed) abort()
  raw.once('close', abort)
  return controller.signal
}
