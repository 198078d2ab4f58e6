import { randomUUID } from 'node:crypto'

/** The caller's `X-Request-Id` if it is short and plain, else a new UUID. */
export function requestId(request?: { headers: Record<string, string | string[] | undefined> }): string {
  const given = request?.headers['x-request-id']
  return typeof given === 'string' && /^[\w.:/+=-]{1,128}$/.test(given) ? given : randomUUID()
}
