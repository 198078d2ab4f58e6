import type { Test } from 'tap'
import type { Config } from '../../src/config.ts'
import { startService } from './app.ts'
import { connect } from './database.ts'

export type Role = 'member' | 'moderator' | 'admin'

/** The service, and users with roles in it. */
export async function startModerated(t: Test, overrides: Partial<Config> = {}) {
  const service = await startService(t, overrides)
  const client = await connect(t, service.database)
  const registerAs = async (role: Role) => {
    const user = await service.register()
    if (role !== 'member') {
      await client.query('insert into chat_user_role (user_id, role) values ($1, $2)', [user.userId, role])
    }
    return user
  }
  return { ...service, client, registerAs }
}
