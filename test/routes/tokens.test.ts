import t from 'tap'
import { startService } from '../helpers/app.ts'
import { config, connect } from '../helpers/database.ts'
import { startProxy } from '../helpers/proxy.ts'
import { waitUntil } from '../helpers/raw.ts'

t.test('a bot posts, edits and deletes with an API token until it is revoked', async (t) => {
  const { call, register, database } = await startService(t)
  const { token: session, userId } = await register()
  const { token: stranger } = await register()
  const create = (name: unknown) => call('POST', '/api/tokens', { token: session, body: { name } })
  const list = async (token = session) => (await call('GET', '/api/tokens', { token })).body
  const { status, body } = await create('  build bot ')
  t.equal(status, 201)
  t.match(body, { id: Number, name: 'build bot', token: /^chat_[0-9a-f]{64}$/ })
  t.strictSame(Object.keys(body), ['id', 'name', 'token'])
  const { id, token } = body
  const unused = await list()
  t.match(unused, [{ id, name: 'build bot', createdAt: /^\d{4}-.+Z$/, lastUsedAt: null }])
  t.strictSame(await list(stranger), [], "nobody sees another's")

  const { body: message } = await call('POST', '/api/messages', { token, body: { text: 'hello' } })
  t.match(message, { userId, text: 'hello' })
  const path = `/api/messages/${message.id}`
  t.match(await call('PATCH', path, { token, body: { text: 'hi' } }), { status: 200, body: { text: 'hi' } })
  t.equal((await call('DELETE', path, { token })).status, 200)
  await waitUntil('its use is noted', async () => (await list())[0].lastUsedAt !== null)

  const client = await connect(t, database)
  const { rows } = await client.query('select t::text as row from chat_token t')
  t.notOk(rows[0].row.includes(token.slice(5)), 'the database does not hold it')
  await client.query("update chat_token set last_used_at = '2020-01-01'")
  await call('POST', '/api/messages', { token, body: { text: 'again' } })
  t.equal((await list())[0].lastUsedAt, '2020-01-01T00:00:00.000Z', 'not with each request')

  const revoke = (user: string) => call('DELETE', `/api/tokens/${id}`, { token: user })
  t.match(await revoke(stranger), { status: 404, body: { code: 'api_token_unknown' } })
  t.equal((await revoke(session)).status, 204)
  t.equal((await revoke(session)).status, 404)
  for (const useless of [token, `chat_${'0'.repeat(64)}`, 'chat_', 'chat_x']) {
    const answer = await call('POST', '/api/messages', { token: useless, body: { text: 'no' } })
    t.match(answer, { status: 401, body: { code: 'session_not_found' } })
  }
  const { token: last } = (await create('last')).body
  const postLast = async () =>
    (await call('POST', '/api/messages', { token: last, body: { text: 'last' } })).status
  await client.query("insert into chat_restriction (user_id, kind) values ($1, 'ban')", [userId])
  t.equal(await postLast(), 401, 'not while its user is banned')
  await client.query('delete from chat_restriction')
  t.equal(await postLast(), 201)
  await client.query('delete from chat_message')
  await client.query('delete from chat_user where id = $1', [userId])
  t.equal(await postLast(), 401, 'nor when its user is gone')
})

t.test('an API token cannot manage accounts, sessions, tokens or the room', async (t) => {
  const { call, register } = await startService(t)
  const { token: session, nickname } = await register()
  const { token, id } = (await call('POST', '/api/tokens', { token: session, body: { name: 'bot' } })).body
  const passwords = { currentPassword: 'correct horse', newPassword: 'another horse' }
  for (const [method, path, body] of [
    ['GET', '/api/tokens'],
    ['POST', '/api/tokens', { name: 'another' }],
    ['DELETE', `/api/tokens/${id}`],
    ['GET', '/api/sessions'],
    ['DELETE', '/api/sessions'],
    ['DELETE', '/api/sessions/x'],
    ['PUT', '/api/password', passwords],
    ['POST', '/api/logout']
  ] as const) {
    t.match(
      await call(method, path, { token, body }),
      { status: 403, body: { code: 'session_required' } },
      `${method} ${path}`
    )
  }
  t.equal((await call('GET', '/api/sessions', { token: `chat_${'0'.repeat(64)}` })).status, 401)
  t.equal((await call('GET', '/api/tokens', { token: session })).body.length, 1)
  const login = await call('POST', '/api/login', { body: { nickname, password: 'correct horse' } })
  t.equal(login.status, 200, 'the password is the same')
})

t.test('the name of a token is checked', async (t) => {
  const { call, register } = await startService(t)
  const { token } = await register()
  for (const [name, code] of [
    [undefined, 'token_name_missing'],
    ['', 'token_name_missing'],
    [' \u200b ', 'token_name_missing'],
    [null, 'token_name_missing'],
    [7, 'token_name_invalid'],
    ['a\0b', 'token_name_invalid'],
    ['a\u009bb', 'token_name_invalid'],
    ['😀'.repeat(65), 'token_name_too_long']
  ] as const) {
    t.match(
      await call('POST', '/api/tokens', { token, body: { name } }),
      { status: 400, body: { code } },
      JSON.stringify(name)
    )
  }
  const { status } = await call('POST', '/api/tokens', { token, body: { name: '😀'.repeat(64) } })
  t.equal(status, 201)
})

t.test('of fifteen simultaneous tokens on two replicas, a user gets ten', async (t) => {
  const one = await startService(t)
  const other = await startService(t, { POSTGRES_DB: one.database })
  const { token } = await one.register()
  const answers = await Promise.all(
    Array.from({ length: 15 }, (_, n) =>
      (n % 2 ? one : other).call('POST', '/api/tokens', { token, body: { name: `bot ${n}` } })
    )
  )
  t.strictSame(answers.map(({ status }) => status).sort(), [...Array(10).fill(201), ...Array(5).fill(409)])
  const tokens = (await one.call('GET', '/api/tokens', { token })).body
  t.equal(tokens.length, 10)
  t.equal((await one.call('DELETE', `/api/tokens/${tokens[3].id}`, { token })).status, 204)
  t.equal((await other.call('POST', '/api/tokens', { token, body: { name: 'again' } })).status, 201)
})

t.test('an outage is 503, and without Redis an API token works where nothing is limited', async (t) => {
  const postgres = await startProxy(t, config.POSTGRES_HOST!, config.POSTGRES_PORT)
  const redis = await startProxy(t, config.REDIS_HOST!, config.REDIS_PORT)
  const overrides = {
    POSTGRES_HOST: '127.0.0.1',
    POSTGRES_PORT: postgres.port,
    REDIS_HOST: '127.0.0.1',
    REDIS_PORT: redis.port
  }
  const service = await startService(t, overrides)
  const limited = await startService(t, {
    ...overrides,
    POSTGRES_DB: service.database,
    RATE_LIMIT: 'on'
  })
  const { token: session } = await service.register()
  const { token } = (await service.call('POST', '/api/tokens', { token: session, body: { name: 'bot' } }))
    .body
  const post = ({ call }: typeof service) => call('POST', '/api/messages', { token, body: { text: 'hello' } })
  const limitedPost = await post(limited)
  t.equal(limitedPost.status, 201)
  t.match(limitedPost.headers.get('ratelimit'), /"writes";r=9/)

  await redis.cut()
  t.equal((await post(service)).status, 201)
  t.match(await post(limited), { status: 503, body: { code: 'redis_unavailable' } })
  await redis.mend()
  await postgres.cut()
  t.match(await post(service), { status: 503, body: { code: 'database_unavailable' } })
  await postgres.mend()
  await waitUntil('it works as before', async () => (await post(limited)).status === 201)
})
