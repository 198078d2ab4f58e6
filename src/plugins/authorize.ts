import type { onRequestAsyncHookHandler } from 'fastify'
import fp from 'fastify-plugin'
import { Forbidden, SessionNotFound, UserNotFound } from '../errors/catalogue.ts'
import { findMember } from '../moderation/members.ts'

declare module 'fastify' {
  interface FastifyInstance {
    /** A hook after `authenticate`, for moderators and admins. */
    requireModerator: onRequestAsyncHookHandler
    /** A hook after `authenticate`, for admins. */
    requireAdmin: onRequestAsyncHookHandler
  }
}

/**
 * Decorates the instance with hooks that refuse with 403 whoever has no such role. An action is judged once
 * more when it is done, because roles may change meanwhile.
 */
export default fp(
  async (app) => {
    const requireRole =
      (...roles: string[]): onRequestAsyncHookHandler =>
      async ({ userId }) => {
        const member = await findMember(app.sql, userId)
        if (member === undefined) throw new UserNotFound()
        if (member.restriction?.kind === 'ban') throw new SessionNotFound() // Its sessions are about to end.
        if (!roles.includes(member.role)) throw new Forbidden()
      }
    app.decorate('requireModerator', requireRole('moderator', 'admin'))
    app.decorate('requireAdmin', requireRole('admin'))
  },
  { name: 'authorize', dependencies: ['authenticate', 'postgres'] }
)
