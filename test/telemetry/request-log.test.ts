import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import Fastify, { type FastifyRequest } from 'fastify'
import { pino } from 'pino'
import t from 'tap'
import { RequestLog } from '../../src/telemetry/request-log.ts'
import { startService } from '../helpers/app.ts'
import { connect } from '../helpers/database.ts'
import { openRaw, waitUntil } from '../helpers/raw.ts'

/** The lines of completed requests, by the ids that the requests were given. */
const completed = (logs: Record<string, unknown>[]) =>
  new Map(logs.filter(({ msg }) => msg === 'request completed').map((line) => [line['requestId'], line]))

t.test('one line for each completed request: method, route, status, duration, request id', async (t) => {
  const { call, logs } = await startService(t, { LOG_REQUESTS: 'all' })
  for (const [method, path, route, status] of [
    ['GET', '/api/messages?limit=2&after_id=0', '/api/messages', 200],
    ['GET', '/api/messages?limit=none', '/api/messages', 400],
    ['POST', '/api/logout', '/api/logout', 401],
    ['PUT', '/api/login', '/api/login', 405],
    ['GET', '/nowhere?secret=1', 'unknown', 404],
    ['GET', '/%zz', 'unknown', 400],
    ['GET', '/health/livez', '/health/livez', 200]
  ] as const) {
    const { headers } = await call(method, path)
    const requestId = headers.get('x-request-id')
    await waitUntil('it is logged', () => completed(logs).has(requestId))
    const lines = logs.filter((line) => line['requestId'] === requestId)
    t.equal(lines.length, 1, `${method} ${path}`)
    t.match(lines[0], { level: 30, method, route, status, durationMs: Number })
    t.notOk('userId' in lines[0]!, 'nobody is logged in')
  }
})

t.test('by default writes and errors are logged, and successful reads are not', async (t) => {
  const { call, logs, register } = await startService(t)
  const { token } = await register()
  const ask = (method: string, path: string, id: string, more = {}) =>
    call(method, path, { headers: { 'x-request-id': id }, ...more })

  await ask('GET', '/api/messages', 'page')
  await ask('GET', '/api/messages?after_id=99', 'poll')
  await ask('GET', '/health/livez', 'health')
  await ask('GET', '/metrics', 'metrics')
  await ask('GET', '/api/messages?after_id=99&wait=2', 'long poll')
  await ask('GET', '/api/messages?limit=none', 'error')
  await ask('GET', '/nowhere', 'unknown')
  await ask('POST', '/api/messages', 'post', { token, body: { text: 'hello' } })

  await waitUntil('the last is logged', () => completed(logs).has('post'))
  // On a busy machine a read may take a second, and is logged then; but not two, as the long poll does.
  const isSlow = ({ status, durationMs }: Record<string, unknown>) =>
    status === 200 && Number(durationMs) >= 1000 && Number(durationMs) < 2000
  const logged = [...completed(logs)].filter(([, line]) => !isSlow(line)).map(([id]) => id)
  t.strictSame(logged.slice(1), ['error', 'unknown', 'post'])
})

t.test('by default a read is logged if it takes a second or longer', async (t) => {
  const lines: Record<string, unknown>[] = []
  const app = Fastify({
    loggerInstance: pino({}, { write: (line) => lines.push(JSON.parse(line)) }),
    logController: new RequestLog('changes')
  })
  t.teardown(() => app.close())
  app.decorateRequest('waitedMs', 0)
  app.get('/:ms', async (request: FastifyRequest<{ Params: { ms: string } }>) => {
    await sleep(Number(request.params.ms))
    return 'late'
  })
  for (const url of ['/10', '/1010', '/20']) t.equal((await app.inject(url)).statusCode, 200)
  t.equal(lines.length, 1)
  t.match(lines[0], { route: '/:ms', status: 200 })
  t.ok(Number(lines[0]?.['durationMs']) >= 1000)
})

t.test('a write is logged once, with 499, if its client leaves before the response', async (t) => {
  const { url, app, logs, database, register } = await startService(t)
  const { token, userId } = await register()
  const client = await connect(t, database)
  const json = '{"text":"hello"}'
  const request = (id: string, version = '1.1') =>
    `POST /api/messages HTTP/${version}\r\nhost: x\r\nauthorization: Bearer ${token}\r\n` +
    `x-request-id: ${id}\r\ncontent-type: application/json\r\ncontent-length: ${json.length}\r\n\r\n`
  for (const [id, bytes] of [
    ['whole', request('whole') + json],
    ['http-1.0', request('http-1.0', '1.0') + json],
    ['half', request('half') + json.slice(5)],
    ['second', `GET /health/livez HTTP/1.1\r\nhost: x\r\n\r\n${request('second')}${json}`]
  ] as const) {
    await client.query('begin; lock table chat_message in exclusive mode')
    const arrived = new Promise((resolve) => {
      app.server.on('request', ({ headers }) => headers['x-request-id'] === id && resolve(undefined))
    })
    const { socket } = await openRaw(t, url)
    socket.write(bytes)
    await arrived
    if (id !== 'half') {
      await waitUntil('it waits for PostgreSQL', async () => {
        const { rows } = await client.query(
          'select from pg_locks join pg_database on oid = database where not granted and datname = $1',
          [database]
        )
        return rows.length > 0
      })
    }
    socket.resetAndDestroy()
    await waitUntil(`${id} is logged`, () => completed(logs).has(id))
    await client.query('commit')
    t.match(completed(logs).get(id), { method: 'POST', route: '/api/messages', status: 499 }, id)
    if (id !== 'half') t.equal(completed(logs).get(id)?.['userId'], userId)
  }
  await app.close() // which waits for what is under way
  t.equal(logs.filter(({ status }) => status === 499).length, 4, 'once each')
})

t.test('a request that turns out to be broken is logged with the status that it got', async (t) => {
  const { url, app, logs } = await startService(t)
  const { socket, closed } = await openRaw(t, url)
  const request = once(app.server, 'request')
  const head = [
    'POST /api/login HTTP/1.1',
    'host: x',
    'x-request-id: broken',
    'content-type: application/json'
  ]
  socket.write(`${head.join('\r\n')}\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n`)
  const [arrived] = await request
  await waitUntil('the body is read', () => arrived.readableFlowing)
  socket.write('no chunk\r\n')
  t.match(await closed, /^HTTP\/1.1 400 /)
  await waitUntil('it is logged', () => completed(logs).has('broken'))
  t.match(completed(logs).get('broken'), { route: '/api/login', status: 400 })
})

t.test('a request that is refused as broken while it is handled is logged as refused', async (t) => {
  const { url, app, logs, register, post } = await startService(t)
  const { token } = await register()
  const { longPolls } = app.room
  // Without reading, so that the client does not close the connection once the error has come.
  const { socket } = await openRaw(t, url, { reads: false })
  const head = ['GET /api/messages?after_id=0&wait=25 HTTP/1.1', 'host: x', 'x-request-id: poll']
  socket.write(`${head.join('\r\n')}\r\ntransfer-encoding: chunked\r\n\r\n`)
  await waitUntil('it waits', () => longPolls.size === 1)
  const refused = once(app.server, 'clientError')
  socket.write('no chunk\r\n')
  await refused
  await post(token, 'what it waits for')
  await waitUntil('it is handled', () => longPolls.size === 0)
  socket.destroy()
  await waitUntil('it is logged', () => completed(logs).has('poll'))
  t.match(completed(logs).get('poll'), { route: '/api/messages', status: 400 })
  const metrics = await app.metrics.registry.metrics()
  t.match(metrics, /_count\{method="GET",route="\/api\/messages",status="400"\} 1/)
})

t.test('a long poll or stream that its client leaves is no error, and its wait no latency', async (t) => {
  const { url, app, logs } = await startService(t)
  const { longPolls, streams } = app.room
  for (const path of ['/api/messages?after_id=0&wait=25', '/api/events']) {
    const { socket } = await openRaw(t, url)
    socket.write(`GET ${path} HTTP/1.1\r\nhost: x\r\n\r\n`)
    await waitUntil('it is open', () => longPolls.size + streams.size === 1)
    await sleep(1500)
    socket.destroy()
    await waitUntil('it is closed', () => longPolls.size + streams.size === 0)
  }
  const metrics = await app.metrics.registry.metrics()
  const requests = metrics.match(/^http_request_duration_seconds_(sum|count).+$/gm) ?? []
  t.match(requests, [/_sum{.+,route="\/api\/messages",status="499"} 0$/, /_count{.+,status="499"} 1$/])
  t.equal(requests.length, 2, 'a stream is not counted')
  t.equal(completed(logs).size, 0)
})

t.test('LOG_REQUESTS=none still logs errors of the service', async (t) => {
  const { call, logs, database } = await startService(t, { LOG_REQUESTS: 'none' })
  await (await connect(t, database)).query('drop table chat_message; drop table chat_user')
  const id = 'the-fault'
  const body = { nickname: 'alice', password: 'correct horse' }
  t.equal((await call('POST', '/api/login', { body, headers: { 'x-request-id': id } })).status, 503)
  await call('GET', '/nowhere')
  t.match(
    logs.filter(({ requestId }) => requestId !== undefined),
    [{ level: 50, requestId: id, msg: 'database is not ready' }]
  )
  t.equal(completed(logs).size, 0)
})

t.test("log lines of writes have the user's id", async (t) => {
  const { call, logs } = await startService(t)
  const account = { nickname: 'a-name-to-look-for', password: 'correct horse' }
  const ids: string[] = []
  const ask = async (method: string, path: string, token?: string, body?: object) => {
    const id = `request-${ids.length}`
    ids.push(id)
    const headers = { 'x-request-id': id }
    return call(method, path, { headers, ...(token && { token }), ...(body && { body }) })
  }
  const { token, userId } = (await ask('POST', '/api/register', undefined, account)).body
  const second = (await ask('POST', '/api/login', undefined, account)).body.token
  const { id } = (await ask('POST', '/api/messages', token, { text: 'a-text-to-look-for' })).body
  await ask('PATCH', `/api/messages/${id}`, token, { text: 'a-text-to-look-for, again' })
  await ask('DELETE', `/api/messages/${id}`, token)
  await ask('DELETE', `/api/messages/${id}`, token)
  await ask('DELETE', '/api/sessions/none', token)
  await ask('POST', '/api/logout', second)

  await waitUntil('all are logged', () => completed(logs).size === ids.length)
  for (const id of ids) t.match(completed(logs).get(id), { userId }, id)
  t.notMatch(JSON.stringify(logs), 'to-look-for', 'neither a nickname nor a text')

  await ask('POST', '/api/logout', second)
  await waitUntil('it is logged', () => completed(logs).size === ids.length)
  t.notOk('userId' in completed(logs).get(ids.at(-1))!, 'nobody is logged in any more')
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
