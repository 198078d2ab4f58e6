import t from 'tap'
import { startService } from '../helpers/app.ts'
import { connect } from '../helpers/database.ts'

t.test('one line for each completed request: method, route, status, duration, request id', async (t) => {
  const { call, logs } = await startService(t)
  const completed = () => logs.filter(({ msg }) => msg === 'request completed')
  for (const [method, path, route, status] of [
    ['GET', '/api/messages?limit=2&after_id=0', '/api/messages', 200],
    ['GET', '/api/messages?limit=none', '/api/messages', 400],
    ['POST', '/api/logout', '/api/logout', 401],
    ['PUT', '/api/login', '/api/login', 405],
    ['GET', '/nowhere?secret=1', 'unknown', 404],
    ['GET', '/%zz', 'unknown', 400],
    ['GET', '/health/livez', '/health/livez', 200]
  ] as const) {
    const before = completed().length
    const { headers } = await call(method, path)
    while (completed().length === before) await new Promise(setImmediate)
    t.equal(completed().length, before + 1, `${method} ${path}`)
    t.match(completed().at(-1), {
      level: 30,
      method,
      route,
      status,
      durationMs: Number,
      requestId: headers.get('x-request-id')
    })
  }
})

t.test('no line holds a password, a token or an authorization header', async (t) => {
  const { call, logs, database } = await startService(t)
  const password = 'a-password-to-look-for'
  const {
    body: { token }
  } = await call('POST', '/api/register', { body: { nickname: 'alice', password } })
  await call('POST', '/api/login', { body: { nickname: 'alice', password } })
  await call('POST', '/api/login', { body: { nickname: 'alice', password: `${password}-wrong` } })
  await call('POST', '/api/login', { raw: `{"nickname":"alice","password":"${password}"` })
  await call('POST', '/api/register', { body: { nickname: 'bob', password: password.repeat(5) } })
  await call('POST', '/api/messages', { token, body: { text: 'fine' } })
  await call('POST', '/api/messages', {
    headers: { authorization: `Basic ${token}` },
    body: { text: 'refused' }
  })

  // A row that breaks a constraint: PostgreSQL quotes it whole in the detail of its error, hash included.
  const client = await connect(t, database)
  await client.query('alter table chat_user add constraint nobody_else check (nickname = $$alice$$)')
  t.equal((await call('POST', '/api/register', { body: { nickname: 'carol', password } })).status, 500)
  await client.query('drop table chat_message; drop table chat_user')
  t.equal((await call('POST', '/api/login', { body: { nickname: 'alice', password } })).status, 503)
  await call('POST', '/api/logout', { token })

  const everything = JSON.stringify(logs)
  t.match(everything, 'nobody_else', 'the fault is in the log')
  for (const secret of [password, token, '$2b$', 'Bearer', 'Basic']) {
    t.notOk(everything.includes(secret), `no ${secret}`)
  }
})
