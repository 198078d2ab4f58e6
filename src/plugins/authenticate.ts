import type { FastifyRequest, onRequestAsyncHookHandler } from 'fastify'
import fp from 'fastify-plugin'
import { findSession } from '../accounts/sessions.ts'
import { AuthorizationMalformed, AuthorizationMissing, SessionNotFound } from '../errors.ts'

declare module 'fastify' {
  interface FastifyInstance { authenticate: onRequestAsyncHookHandler }
  interface FastifyRequest { userId: number }
}

/** The token of `Authorization: Bearer <token>`, scheme in any case (RFC 9110, 11.1). @throws {AuthorizationMissing | AuthorizationMalformed} */
export function bearerToken ({ headers: { authorization } }: FastifyRequest): string {
  if (!authorization) throw new AuthorizationMissing()
  const token = /^bearer +(\S+)$/i.exec(authorization)?.[1]
  if (token === undefined) throw new AuthorizationMalformed()
  return token
}

/** Decorates the instance with the hook `authenticate`, which sets `request.userId` or refuses with 401. */
export default fp(async (app) => {
  app.decorateRequest('userId', 0)
  app.decorate('authenticate', async (request) => {
    const userId = await findSession(app.redis, bearerToken(request))
    if (userId === undefined) throw new SessionNotFound()
    request.userId = userId
  })
}, { name: 'authenticate', dependencies: ['redis'] })
