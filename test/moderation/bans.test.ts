import t from 'tap'
import { startService } from '../helpers/app.ts'
import { openRedis } from '../helpers/database.ts'
import { startModerated } from '../helpers/people.ts'

const ban = { kind: 'ban' }

t.test("a ban revokes the user's API tokens for good, on every replica", async (t) => {
  const { call, registerAs, database } = await startModerated(t)
  const other = await startService(t, { POSTGRES_DB: database })
  const admin = await registerAs('admin')
  const { userId, nickname, token: session } = await registerAs('member')
  const create = async () =>
    (await call('POST', '/api/tokens', { token: session, body: { name: 'bot' } })).body.token
  const tokens = [await create(), await create()]
  const path = `/api/users/${userId}/restriction`
  const post = (at: typeof call, token: string) =>
    at('POST', '/api/messages', { token, body: { text: 'hello' } })
  await call('PUT', path, { token: admin.token, body: { kind: 'mute' } })
  for (const token of tokens) t.equal((await post(call, token)).status, 403, 'a mute does not')

  await call('PUT', path, { token: admin.token, body: ban })
  for (const token of tokens) t.equal((await post(other.call, token)).status, 401)
  t.equal((await call('DELETE', path, { token: admin.token })).status, 204)
  for (const token of tokens) t.equal((await post(call, token)).status, 401, 'nor when the ban was lifted')
  const { body } = await call('POST', '/api/login', { body: { nickname, password: 'correct horse' } })
  t.strictSame((await call('GET', '/api/tokens', { token: body.token })).body, [])
})

t.test('an API token that is created during a ban does not survive it', async (t) => {
  const { call, client, registerAs, database } = await startModerated(t)
  const other = await startService(t, { POSTGRES_DB: database })
  const admin = await registerAs('admin')
  for (let round = 0; round < 5; round++) {
    const { userId, token } = await registerAs('member')
    const answers = await Promise.all([
      ...[0, 1, 2, 3, 4, 5, 6, 7].map((n) =>
        (n % 2 ? other.call : call)('POST', '/api/tokens', { token, body: { name: `bot ${n}` } })
      ),
      call('PUT', `/api/users/${userId}/restriction`, { token: admin.token, body: ban })
    ])
    t.ok(answers.every(({ status }) => [200, 201, 401].includes(status)))
    const { rows } = await client.query('select name from chat_token where user_id = $1', [userId])
    t.strictSame(rows, [])
  }
})

t.test('a session that the Go service starts for a banned user is refused', async (t) => {
  const { call, registerAs, post } = await startModerated(t)
  const redis = openRedis(t)
  const admin = await registerAs('admin')
  const { userId, token } = await registerAs('member')
  const { id } = await post(token, 'hello')
  const headers = { 'idempotency-key': 'key' }
  const keyed = await call('POST', '/api/messages', { token, body: { text: 'keyed' }, headers })
  await call('PUT', `/api/users/${userId}/restriction`, { token: admin.token, body: ban })
  await redis.set(`session:${token}`, userId, 'EX', 60)
  const refused = { status: 401, body: { code: 'session_not_found' } }
  const passwords = { currentPassword: 'correct horse', newPassword: 'another horse' }
  for (const [method, path, body] of [
    ['GET', '/api/me'],
    ['DELETE', '/api/me', { password: 'correct horse' }],
    ['GET', '/api/sessions'],
    ['DELETE', '/api/sessions'],
    ['DELETE', '/api/sessions/x'],
    ['GET', '/api/tokens'],
    ['POST', '/api/tokens', { name: 'bot' }],
    ['DELETE', '/api/tokens/1'],
    ['PUT', '/api/password', passwords],
    ['POST', '/api/messages', { text: 'hello' }],
    ['POST', '/api/messages', { text: 'hello', replyTo: id }],
    ['POST', '/api/messages', { text: 'hello', replyTo: id + 1000 }],
    ['POST', `/api/messages/${id}/report`, { reason: 'rude' }],
    ['POST', `/api/messages/${id + 1000}/report`, { reason: 'rude' }],
    ['PATCH', `/api/messages/${id}`, { text: 'changed' }],
    ['DELETE', `/api/messages/${id}`],
    ['GET', '/api/reports']
  ] as const) {
    const answer = await call(method, path, { token, ...(body && { body }) })
    t.match(answer, refused, `${method} ${path}`)
  }
  for (const body of [
    { text: 'keyed' },
    { text: 'another' },
    { text: 'keyed', replyTo: id },
    { text: 'keyed', replyTo: id + 1000 }
  ]) {
    const answer = await call('POST', '/api/messages', { token, body, headers })
    t.match(answer, refused, `with an earlier key: ${JSON.stringify(body)}`)
  }
  t.match((await call('GET', '/api/messages')).body, [{ id, text: 'hello' }, keyed.body])
})
