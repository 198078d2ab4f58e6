import fp from 'fastify-plugin'
import { createPasswords } from '../accounts/passwords.ts'
import type { Config } from '../config.ts'

declare module 'fastify' {
  interface FastifyInstance {
    passwords: ReturnType<typeof createPasswords>
  }
}

/** Decorates the instance with `passwords`, and stops its threads on close. */
export default fp<{ config: Config }>(
  async (app, { config }) => {
    app.decorate('passwords', createPasswords(config.BCRYPT_COST))
    app.addHook('onClose', () => app.passwords.close())
  },
  { name: 'passwords' }
)
