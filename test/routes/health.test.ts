import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { connect } from 'node:net'
import t from 'tap'
import { startService } from '../helpers/app.ts'
import { measure } from '../helpers/clock.ts'
import { admin, config, connect as connectTo, createDatabase } from '../helpers/database.ts'
import { startProxy } from '../helpers/proxy.ts'
import { waitUntil } from '../helpers/raw.ts'

t.test('livez and readyz answer 200 while all is well', async (t) => {
  const { call } = await startService(t)
  for (const path of ['/health/livez', '/health/readyz', '/health/readyz?for=reads']) {
    const { status, body } = await call('GET', path)
    t.equal(status, 200)
    t.strictSame(body, { status: 'ok' })
  }
})

for (const [engine, sentence, code] of [
  ['postgres', 'database is not ready', 'database_unavailable'],
  ['redis', 'redis is not ready', 'redis_unavailable']
] as const) {
  t.test(
    `${engine} down and hanging: readyz says so within 2 s, livez stays, and both recover`,
    async (t) => {
      const proxy =
        engine === 'postgres'
          ? await startProxy(t, config.POSTGRES_HOST!, config.POSTGRES_PORT)
          : await startProxy(t, config.REDIS_HOST!, config.REDIS_PORT)
      const { call } = await startService(
        t,
        engine === 'postgres'
          ? { POSTGRES_HOST: '127.0.0.1', POSTGRES_PORT: proxy.port }
          : { REDIS_HOST: '127.0.0.1', REDIS_PORT: proxy.port }
      )

      for (const failure of ['cut', 'freeze'] as const) {
        await proxy[failure]()
        const { done, ms } = await measure(() => call('GET', '/health/readyz'))
        const { status, headers, body } = done
        t.ok(ms < 2000, `${failure}: answered in time, after ${Math.round(ms)} ms`)
        t.equal(status, 503, failure)
        t.match(body, { error: sentence, code })
        t.match(headers.get('retry-after'), /^\d+$/)
        t.equal((await call('GET', '/health/livez')).status, 200)
        t.equal((await call('GET', '/health/readyz?for=reads')).status, 200, 'the newest page can be read')

        await proxy.mend()
        const isReady = async () => (await call('GET', '/health/readyz')).status === 200
        await waitUntil(`readyz is 200 after ${failure}`, isReady)
      }
    }
  )
}

t.test('during shutdown, requests in flight finish, and readyz is 503 on open connections', async (t) => {
  const proxy = await startProxy(t, config.POSTGRES_HOST!, config.POSTGRES_PORT)
  const { app, url, register } = await startService(t, {
    POSTGRES_HOST: '127.0.0.1',
    POSTGRES_PORT: proxy.port
  })
  const { token } = await register()
  const socket = connect(Number(new URL(url).port), '127.0.0.1')
  const ended = once(socket, 'close')
  let answers = ''
  socket.on('data', (data) => {
    answers += data
  })
  const ask = async (request: string, headers = '', body = '') => {
    const arrived = once(app.server, 'request')
    socket.write(`${request} HTTP/1.1\r\nhost: chat\r\n${headers}\r\n${body}`)
    await arrived
  }

  proxy.freeze()
  const body = '{"text":"begun"}'
  await ask(
    'POST /api/messages',
    `authorization: Bearer ${token}\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n`,
    body
  )
  const closed = app.close()
  await waitUntil('it stops listening', () => !app.server.listening)
  await ask('GET /health/readyz') // Its answer follows the one before it on this connection.
  await proxy.mend()
  await Promise.all([closed, ended])
  t.match(
    answers,
    /^HTTP\/1\.1 201 Created[^]*HTTP\/1\.1 503 [^]*"error":"shutting down","code":"shutting_down"/
  )
})

t.test('readyz fails from the beginning of a graceful shutdown, also for reads', async (t) => {
  const { app, call } = await startService(t)
  app.drain.hasBegun = true
  for (const path of ['/health/readyz', '/health/readyz?for=reads']) {
    t.match(await call('GET', path), { status: 503, body: { error: 'shutting down', code: 'shutting_down' } })
  }
})

t.test('a log that cannot be followed makes readyz fail, though everything else works', async (t) => {
  const role = `test_${randomBytes(8).toString('hex')}`
  await admin(`create role ${role} login password 'secret'`)
  t.teardown(() => admin(`drop role ${role}`))
  const database = await createDatabase(t)
  await admin(`alter database ${database} owner to ${role}`)
  const { call, logs } = await startService(t, {
    POSTGRES_DB: database,
    POSTGRES_USER: role,
    POSTGRES_PASSWORD: 'secret',
    POSTGRES_POOL: 1 // in use by this test, so that it stays open
  })
  t.equal((await call('GET', '/health/readyz')).status, 200)

  await admin(`alter role ${role} connection limit 0`)
  const outside = await connectTo(t, database)
  await outside.query(
    "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'chat-backend log'"
  )
  await waitUntil('the follower has given up', () =>
    logs.some(({ msg }) => `${msg}`.startsWith('cannot follow the event log'))
  )
  t.match(await call('GET', '/health/readyz'), { status: 503, body: { error: 'database is not ready' } })
  t.equal((await call('GET', '/api/messages?before_id=1')).status, 200, 'other connections work')
  t.equal((await call('GET', '/health/readyz?for=reads')).status, 200)
  t.equal((await call('GET', '/health/livez')).status, 200)

  await admin(`alter role ${role} connection limit -1`)
  await waitUntil('readyz is 200', async () => (await call('GET', '/health/readyz')).status === 200)
})

t.test('readyz stays 200 when the follower loses its connection once', async (t) => {
  const { call, database } = await startService(t)
  const outside = await connectTo(t, database)
  for (let round = 0; round < 3; round++) {
    await outside.query(
      "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'chat-backend log'"
    )
    t.equal((await call('GET', '/health/readyz')).status, 200)
  }
})

t.test(
  'readyz?for=reads asks PostgreSQL where no page is in memory, and takes no other purpose',
  async (t) => {
    const { call } = await startService(t, {
      POSTGRES_DB: await createDatabase(t),
      MIGRATE: 'off'
    })
    t.match(await call('GET', '/health/readyz?for=reads'), {
      status: 503,
      body: { error: 'database is not ready', code: 'database_unavailable' }
    })
    t.match(await call('GET', '/health/readyz?for=writes'), { status: 400, body: { code: 'for_invalid' } })
    t.equal((await call('GET', '/health/readyz?for=')).status, 503, 'an empty purpose is none')
  }
)
