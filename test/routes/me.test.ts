import t from 'tap'
import { startModerated } from '../helpers/people.ts'

t.test('users see their account, with a session and with an API token', async (t) => {
  const { call, client, registerAs } = await startModerated(t)
  const [admin, member] = [await registerAs('admin'), await registerAs('member')]
  const { token, userId, nickname } = member
  const me = async (token: string) => (await call('GET', '/api/me', { token })).body
  const { rows } = await client.query('select created_at from chat_user where id = $1', [userId])
  const account = {
    userId,
    nickname,
    role: 'member',
    createdAt: rows[0].created_at.toISOString(),
    restriction: null
  }
  t.strictSame(await me(token), account)
  const { body } = await call('POST', '/api/tokens', { token, body: { name: 'bot' } })
  t.strictSame(await me(body.token), account, 'a bot learns who it is')
  t.match(await me(admin.token), { role: 'admin', userId: admin.userId })

  const restrict = (restriction: object) =>
    call('PUT', `/api/users/${userId}/restriction`, { token: admin.token, body: restriction })
  const until = new Date(Date.now() + 60 * 60 * 1000).toISOString()
  await restrict({ kind: 'mute', until, reason: 'spam' })
  t.strictSame((await me(token)).restriction, { kind: 'mute', until, reason: 'spam' })
  await restrict({ kind: 'mute' })
  t.strictSame((await me(token)).restriction, { kind: 'mute', until: null, reason: null })
  await client.query("update chat_restriction set until = now() - interval '1 second'")
  t.equal((await me(token)).restriction, null, 'one that has ended is none')

  await client.query('delete from chat_user where id = $1', [userId])
  t.match(await call('GET', '/api/me', { token }), { status: 401, body: { code: 'user_not_found' } })
})
