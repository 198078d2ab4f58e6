import fp from 'fastify-plugin'
import { Sessions } from '../accounts/sessions.ts'

declare module 'fastify' {
  interface FastifyInstance {
    sessions: Sessions
  }
}

/** Decorates the instance with `sessions`. */
export default fp(
  async (app) => {
    app.decorate('sessions', new Sessions(app.redis))
  },
  { name: 'sessions', dependencies: ['redis'] }
)
