import type { FastifyRequest, onRequestAsyncHookHandler } from 'fastify'
import fp from 'fastify-plugin'
import { findApiToken, isApiToken, noteApiTokenUse } from '../accounts/api-tokens.ts'
import {
  AuthorizationMalformed,
  AuthorizationMissing,
  SessionNotFound,
  SessionRequired
} from '../errors/catalogue.ts'
import { reasonOf } from '../lib/reason.ts'

declare module 'fastify' {
  interface FastifyInstance {
    /** Requires a session token. An API token is refused with 403. */
    authenticate: onRequestAsyncHookHandler
    /** Accepts a session token or an API token, for posts, edits and deletions. */
    authenticateAuthor: onRequestAsyncHookHandler
  }
  interface FastifyRequest {
    userId: number
    /** Whether the client sent an API token, with which nobody can moderate. */
    hasApiToken: boolean
  }
}

/**
 * The token of `Authorization: Bearer <token>`, scheme in any case (RFC 9110, 11.1).
 * @throws {AuthorizationMissing | AuthorizationMalformed}
 */
export function bearerToken({ headers: { authorization } }: FastifyRequest): string {
  if (!authorization) throw new AuthorizationMissing()
  const token = /^bearer +(\S+)$/i.exec(authorization)?.[1]
  if (token === undefined) throw new AuthorizationMalformed()
  return token
}

/**
 * Decorates the instance with the hooks `authenticate` and `authenticateAuthor`, which set `request.userId`
 * and `request.hasApiToken`, or refuse with 401.
 */
export default fp(
  async (app) => {
    // The tokens whose use was recorded in this minute. Once is enough, and no request waits for it.
    const noted = new Set<string>()
    let minute = 0
    function note(token: string, noteUse: () => Promise<void>): void {
      const now = Math.floor(Date.now() / 60_000)
      if (now !== minute) noted.clear()
      minute = now
      if (noted.has(token)) return
      noted.add(token)
      noteUse().catch((error: unknown) => {
        app.log.warn(`could not record the use of a token: ${reasonOf(error)}`)
      })
    }

    async function authenticateSession(request: FastifyRequest, token: string): Promise<void> {
      const userId = await app.sessions.find(token)
      if (userId === undefined) throw new SessionNotFound()
      request.userId = userId
      note(token, () => app.sessions.noteUse(token, userId))
    }

    async function authenticateApiToken(request: FastifyRequest, token: string): Promise<void> {
      const userId = await findApiToken(app.sql, token)
      if (userId === undefined) throw new SessionNotFound()
      request.userId = userId
      request.hasApiToken = true
      note(token, () => noteApiTokenUse(app.sql, token))
    }

    app.decorateRequest('userId', 0)
    app.decorateRequest('hasApiToken', false)
    app.decorate('authenticate', async (request) => {
      const token = bearerToken(request)
      if (!isApiToken(token)) return authenticateSession(request, token)
      await authenticateApiToken(request, token)
      throw new SessionRequired()
    })
    app.decorate('authenticateAuthor', async (request) => {
      const token = bearerToken(request)
      await (isApiToken(token) ? authenticateApiToken : authenticateSession)(request, token)
    })
  },
  { name: 'authenticate', dependencies: ['postgres', 'sessions'] }
)
