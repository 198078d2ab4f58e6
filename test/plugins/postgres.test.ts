import t from 'tap'
import { startService } from '../helpers/app.ts'
import { config, connect, createDatabase } from '../helpers/database.ts'
import { startProxy } from '../helpers/proxy.ts'

t.test('connections that the server ends do no harm', async (t) => {
  const { call, database, logs } = await startService(t)
  const client = await connect(t, database)
  await Promise.all(Array.from({ length: 20 }, () => call('POST', '/api/login', { body: { nickname: 'nobody', password: 'x' } })))
  const { rowCount } = await client.query(
    "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'chat-backend' and pid <> pg_backend_pid()")
  t.ok(rowCount && rowCount > 0, `${rowCount} connections ended`)
  const lost = () => logs.filter(({ msg }) => `${msg}`.startsWith('an idle PostgreSQL connection was lost'))
  while (lost().length < rowCount!) await new Promise(setImmediate)
  t.equal((await call('GET', '/health/readyz')).status, 200)
})

t.test('an outage is 503 and never 401, and everything works again after it', async (t) => {
  const proxy = await startProxy(t, config.POSTGRES_HOST!, config.POSTGRES_PORT)
  const { call, register, post } = await startService(t, { POSTGRES_HOST: '127.0.0.1', POSTGRES_PORT: proxy.port })
  const { token, nickname } = await register()
  const requests = [
    () => call('POST', '/api/messages', { token, body: { text: 'lost?' } }),
    () => call('POST', '/api/login', { body: { nickname, password: 'correct horse' } }),
    () => call('POST', '/api/register', { body: { nickname: 'new', password: 'correct horse' } })
  ]

  await proxy.cut()
  for (const request of requests) {
    const { status, body, headers } = await request()
    t.equal(status, 503)
    t.match(body, { error: 'database is not ready', code: 'database_unavailable' })
    t.match(headers.get('retry-after'), /^\d+$/)
  }
  t.equal((await call('POST', '/api/logout', { token: 'none' })).status, 204, 'logout needs no database')

  await proxy.mend()
  for (const status of [201, 200, 201]) t.equal((await requests.shift()!()).status, status, 'as before')
  t.match(await post(token, 'after'), { text: 'after' })
})

t.test('a server that lets the service in no more is an outage too', async (t) => {
  const { call, database } = await startService(t)
  const client = await connect(t, config.POSTGRES_DB)
  const login = () => call('POST', '/api/login', { body: { nickname: 'nobody', password: 'x' } })
  for (const [close, open] of [
    [`alter database ${database} allow_connections false`, `alter database ${database} allow_connections true`],
    [`alter database ${database} rename to ${database}_2`, `alter database ${database}_2 rename to ${database}`]
  ] as const) {
    await client.query('select pg_terminate_backend(pid) from pg_stat_activity where datname = $1', [database])
    await client.query(close)
    // A connection that the pool still takes for alive fails first, and then the new one.
    for (const n of [1, 2, 3]) t.match(await login(), { status: 503, body: { code: 'database_unavailable' } }, `${close}, ${n}`)
    await client.query(open)
    t.equal((await login()).status, 401)
  }
})

t.test('a statement that does not end is given up, and its connection is not used again', async (t) => {
  const { call, database, register } = await startService(t, { POSTGRES_POOL: 1 })
  const { token } = await register()
  const client = await connect(t, database)
  await client.query('begin; lock table chat_message')
  t.match(await call('POST', '/api/messages', { token, body: { text: 'blocked' } }), { status: 503, body: { code: 'database_unavailable' } })
  await client.query('rollback')
  t.equal((await call('POST', '/api/messages', { token, body: { text: 'free' } })).status, 201)
  t.equal((await call('GET', '/api/messages')).body.length, 1, 'the message that was refused is not there')
})

t.test('POSTGRES_URL and REDIS_URL lead to the engines as well as the parts of them do', async (t) => {
  const database = await createDatabase(t)
  const { POSTGRES_HOST, POSTGRES_PORT, POSTGRES_USER, POSTGRES_PASSWORD, REDIS_HOST, REDIS_PORT, REDIS_PASSWORD = '' } = config
  const { call, register, post } = await startService(t, {
    POSTGRES_URL: `postgres://${POSTGRES_USER}:${encodeURIComponent(POSTGRES_PASSWORD)}@${POSTGRES_HOST}:${POSTGRES_PORT}/${database}`,
    POSTGRES_HOST: 'nowhere.invalid', POSTGRES_DB: 'nothing', REDIS_URL: `redis://:${REDIS_PASSWORD}@${REDIS_HOST}:${REDIS_PORT}/0`, REDIS_HOST: 'nowhere.invalid'
  })
  await post((await register()).token, 'hello')
  t.match((await call('GET', '/api/messages')).body, [{ text: 'hello' }])
  const client = await connect(t, database)
  t.equal((await client.query('select text from chat_message')).rows[0].text, 'hello', 'it is in the database of the URL')
})
