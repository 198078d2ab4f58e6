import type { FastifyRequest, onRequestAsyncHookHandler } from 'fastify'
import fp from 'fastify-plugin'
import { AuthorizationMalformed, AuthorizationMissing, SessionNotFound } from '../errors/catalogue.ts'

declare module 'fastify' {
  interface FastifyInstance {
    authenticate: onRequestAsyncHookHandler
  }
  interface FastifyRequest {
    userId: number
  }
}

/**
 * The token of `Authorization: Bearer <token>`, scheme in any case (RFC 9110, 11.1). @throws
 * {AuthorizationMissing | AuthorizationMalformed}
 */
export function bearerToken({ headers: { authorization } }: FastifyRequest): string {
  if (!authorization) throw new AuthorizationMissing()
  const token = /^bearer +(\S+)$/i.exec(authorization)?.[1]
  if (token === undefined) throw new AuthorizationMalformed()
  return token
}

/** Decorates the instance with the hook `authenticate`, which sets `request.userId` or refuses with 401. */
export default fp(
  async (app) => {
    // The sessions whose use was noted in this minute; once is enough, and no request waits for it.
    const noted = new Set<string>()
    let minute = 0
    function note(token: string, userId: number): void {
      const now = Math.floor(Date.now() / 60_000)
      if (now !== minute) noted.clear()
      minute = now
      if (noted.has(token)) return
      noted.add(token)
      app.sessions
        .noteUse(token, userId)
        .catch(({ message }: Error) => app.log.warn(`could not record the use of a session: ${message}`))
    }

    app.decorateRequest('userId', 0)
    app.decorate('authenticate', async (request) => {
      const token = bearerToken(request)
      const userId = await app.sessions.find(token)
      if (userId === undefined) throw new SessionNotFound()
      request.userId = userId
      note(token, userId)
    })
  },
  { name: 'authenticate', dependencies: ['sessions'] }
)
