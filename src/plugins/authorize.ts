import type { onRequestAsyncHookHandler } from 'fastify'
import fp from 'fastify-plugin'
import type { Role } from '../../schemas/moderation.ts'
import { Forbidden } from '../errors/catalogue.ts'
import { requireMember } from '../moderation/members.ts'

declare module 'fastify' {
  interface FastifyInstance {
    /**
     * A hook after `authenticate`. Refuses deleted and banned users with 401: the Go service may have started
     * a session despite the ban.
     */
    requireUser: onRequestAsyncHookHandler
    /** A hook after `authenticate`, for moderators and admins. */
    requireModerator: onRequestAsyncHookHandler
    /** A hook after `authenticate`, for admins. */
    requireAdmin: onRequestAsyncHookHandler
  }
}

/**
 * Decorates the instance with hooks that refuse deleted and banned users with 401, and users without the
 * required role with 403. The SQL of an action checks again, because roles may change meanwhile.
 */
export default fp(
  async (app) => {
    const requireRole =
      (...roles: Role[]): onRequestAsyncHookHandler =>
      async ({ userId }) => {
        const { role } = await requireMember(app.sql, userId)
        if (!roles.includes(role)) throw new Forbidden()
      }
    app.decorate('requireUser', requireRole('member', 'moderator', 'admin'))
    app.decorate('requireModerator', requireRole('moderator', 'admin'))
    app.decorate('requireAdmin', requireRole('admin'))
  },
  { name: 'authorize', dependencies: ['authenticate', 'postgres'] }
)
