import { once } from 'node:events'
import { Agent, request } from 'node:http'
import { connect as dial } from 'node:net'
import t from 'tap'
import { startService } from '../helpers/app.ts'
import { config, connect, createDatabase } from '../helpers/database.ts'
import { startProxy } from '../helpers/proxy.ts'
import { openRaw, waitUntil } from '../helpers/raw.ts'
import { alice, ask, endsPromptly, externalEngines, portClosed, startServer } from '../helpers/server.ts'
import { openStream } from '../helpers/stream.ts'

t.test(
  'a service that is stopped under load loses nothing that it acknowledged, and ends in time',
  async (t) => {
    const POSTGRES_DB = await createDatabase(t)
    const server = startServer(t, {
      ...externalEngines(),
      POSTGRES_DB,
      SHUTDOWN_DELAY: '3', // in which this test has to ask twice
      RATE_LIMIT: 'off'
    })
    const url = await server.ready
    const {
      body: { token }
    } = await ask(url, '/api/register', undefined, { nickname: 'alice', password: 'correct horse' })
    const stream = await openStream(t, url)
    const agent = new Agent({ keepAlive: true })
    t.teardown(() => agent.destroy())

    /** Resolves to the status, or to what went wrong. */
    const call = (method: string, path: string, body?: object) =>
      new Promise<{ status: number | string | undefined; text: string }>((resolve) => {
        const fail = (error: NodeJS.ErrnoException) => resolve({ status: error.code, text: '' })
        request(
          `${url}${path}`,
          {
            method,
            agent,
            headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' }
          },
          (response) => {
            let text = ''
            response
              .setEncoding('utf8')
              .on('data', (data) => {
                text += data
              })
              .on('error', fail)
              .on('end', () => resolve({ status: response.statusCode, text }))
          }
        )
          .on('error', fail)
          .end(body && JSON.stringify(body))
      })
    const acknowledged: string[] = []
    const outcomes = new Set<number | string | undefined>()
    let isOver = false
    const posters = Array.from({ length: 20 }, async (_, poster) => {
      for (let n = 0; !isOver; n++) {
        const text = `message ${poster}-${n}`
        const { status } = await call('POST', '/api/messages', { text })
        outcomes.add(status)
        if (status === 201) acknowledged.push(text)
        else isOver = true
      }
    })
    await stream.events(100)
    const waiting = call('GET', '/api/messages?after_id=1000000&wait=25')
    const silent = dial(Number(new URL(url).port), '127.0.0.1').on('error', () => {})
    await once(silent, 'connect')

    const signalled = performance.now()
    server.child.kill('SIGTERM')
    let readiness = await call('GET', '/health/readyz')
    await waitUntil('readyz fails', async () => {
      readiness = await call('GET', '/health/readyz')
      return readiness.status !== 200
    })
    t.match(readiness, { status: 503, text: /"error":"shutting down"/ }, 'new clients are sent elsewhere')
    const before = acknowledged.length
    t.equal((await call('POST', '/api/messages', { text: 'still served' })).status, 201)
    t.equal(await server.exited, 0)
    t.ok(
      performance.now() - signalled < 25_000,
      `ended after ${Math.round(performance.now() - signalled)} ms`
    )
    await Promise.all(posters)
    t.ok(acknowledged.length > before, 'posting went on meanwhile')
    const ends = [201, 'ECONNREFUSED', 'ECONNRESET', 'EPIPE']
    for (const outcome of outcomes) t.ok(ends.includes(outcome!), `${outcome}`)
    t.match(await waiting, { status: 200, text: '[]' })
    await stream.ended
    t.match(stream.text(), /retry: \d+\n$/)

    const { rows } = await (await connect(t, POSTGRES_DB)).query('select text from chat_message')
    const stored = new Set(rows.map(({ text }) => text))
    t.equal(stored.size, rows.length, 'nothing twice')
    t.strictSame(
      acknowledged.filter((text) => !stored.has(text)),
      [],
      'nothing lost'
    )
  }
)

t.test('a change whose client has disconnected is finished or undone before the shutdown', async (t) => {
  const proxy = await startProxy(t, config.REDIS_HOST!, config.REDIS_PORT)
  const { app, url, database } = await startService(t, { REDIS_HOST: '127.0.0.1', REDIS_PORT: proxy.port })
  const client = await connect(t, database)
  const users = async () => (await client.query('select from chat_user')).rowCount
  // The account is made; its session is not, and will not be.
  proxy.freeze()
  const register = request(`${url}/api/register`, {
    method: 'POST',
    agent: false,
    headers: { 'content-type': 'application/json' }
  })
    .on('error', () => {})
    .end('{"nickname":"half","password":"correct horse"}')
  await waitUntil('the account is made', async () => (await users()) === 1)
  register.destroy()
  await app.close()
  t.equal(await users(), 0)
})

t.test('an overloaded process answers 503 at once, stays alive and recovers', async (t) => {
  const { call } = await startService(t, { MAX_EVENT_LOOP_DELAY: 50 })
  let isLate = true
  const block = () => {
    for (const until = performance.now() + 200; performance.now() < until;);
    if (isLate) setTimeout(block, 1)
  }
  block()
  let answer = await call('GET', '/api/messages')
  await waitUntil('it refuses', async () => {
    answer = await call('GET', '/api/messages')
    return answer.status !== 200
  })
  t.match(answer, { status: 503, body: { error: 'service is busy, try again soon', code: 'busy' } })
  t.match(answer.headers.get('retry-after'), /^\d+$/)
  t.equal((await call('GET', '/health/livez')).status, 200)
  isLate = false
  await waitUntil('it recovers', async () => (await call('GET', '/api/messages')).status === 200)
})

t.test('during a graceful shutdown each response closes its connection', async (t) => {
  const proxy = await startProxy(t, config.POSTGRES_HOST!, config.POSTGRES_PORT)
  const { app, url, register } = await startService(t, {
    POSTGRES_HOST: '127.0.0.1',
    POSTGRES_PORT: proxy.port
  })
  const { token } = await register()
  const get = (path: string) => `GET ${path} HTTP/1.1\r\nhost: chat\r\n\r\n`
  const body = '{"text":"in flight"}'
  const post =
    `POST /api/messages HTTP/1.1\r\nhost: chat\r\nauthorization: Bearer ${token}\r\n` +
    `content-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`
  const open = async (request: string) => {
    const client = await openRaw(t, url)
    client.socket.write(request)
    return client
  }
  const answers = async ({ closed }: { closed: Promise<string> }) =>
    [...(await closed).matchAll(/HTTP\/1\.1 (\d+)[^]*?\r\n\r\n/g)].map(([head, status]) => {
      const connection = /^connection: (.*)$/im.exec(head)?.[1]?.trim()
      return `${status} ${connection}`
    })

  const idle = await open(get('/health/livez'))
  await idle.until(/\r\nConnection: keep-alive\r\n/)
  proxy.freeze()
  let arrived = 0
  app.server.on('request', () => arrived++)
  const inFlight = await open(post)
  const pipelined = await open(post + get('/health/livez'))
  await waitUntil('all of it has arrived', () => arrived === 3)
  app.drain.hasBegun = true
  await proxy.mend()
  t.strictSame(await answers(inFlight), ['201 close'])
  t.strictSame(await answers(pipelined), ['201 keep-alive', '200 close'], 'what came in is answered')
  idle.socket.write(get('/api/messages'))
  t.strictSame(await answers(idle), ['200 keep-alive', '200 close'])
  for (const [path, status] of [
    ['/api/events', 200],
    ['/nowhere', 404],
    ['/health/readyz', 503]
  ] as const) {
    const client = await open(get(path))
    const [head = ''] = (await client.until(/\r\n\r\n/)).split('\r\n\r\n')
    t.match(head, new RegExp(`^HTTP/1.1 ${status} [^]*\r\nconnection: close`, 'i'), path)
  }
})

t.test('a half-sent request does not hold up a shutdown; one that arrives in time is answered', async (t) => {
  const server = startServer(t, { ...externalEngines(), POSTGRES_DB: await createDatabase(t) })
  const url = await server.ready
  const probe = 'GET /health/livez HTTP/1.1\r\nhost: chat\r\n\r\n'
  const head = 'GET /api/messages HTTP/1.1\r\nhost: chat\r\nx-a: b'
  const post = (path: string) =>
    `POST ${path} HTTP/1.1\r\nhost: chat\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{`
  const open = async (halfSent: string) => {
    const client = await openRaw(t, url)
    client.socket.write(probe + halfSent)
    await client.until(/"status":"ok"/) // so it has arrived
    return client
  }
  const inTime = await open(head)
  const late = [await open(head), await open(post('/api/login'))]
  const refused = await open(post('/nowhere'))
  await refused.until(/404 Not Found/)

  const ended = endsPromptly(t, server, 'SIGTERM')
  await portClosed(Number(new URL(url).port))
  inTime.socket.write('\r\n\r\n')
  t.match(await inTime.closed, /200 OK[^]*200 OK[^]*\r\nconnection: close\r\n[^]*\[\]$/i)
  for (const { closed } of late) {
    t.match(await closed, /200 OK[^]*HTTP\/1\.1 408 [^]*"code":"request_timeout"/)
  }
  t.notMatch(await refused.closed, /408/, 'it was answered')
  await ended
})

t.test('a client that does not read its response does not hold up a shutdown', async (t) => {
  const POSTGRES_DB = await createDatabase(t)
  const server = startServer(t, { ...externalEngines(), POSTGRES_DB })
  const url = await server.ready
  await ask(url, '/api/register', undefined, alice)
  const client = await connect(t, POSTGRES_DB)
  await client.query(`
    insert into chat_message (user_id, text, created_at)
    select id, repeat('x', 20000), now() from chat_user, generate_series(1, 200)`)
  const page = '/api/messages?limit=200'
  await waitUntil('all of them can be read', async () => (await ask(url, page)).body.length === 200)
  const { socket } = await openRaw(t, url, { reads: false })
  // 40 MB, much more than the kernel keeps for a reader who does not read.
  socket.write(`GET ${page} HTTP/1.1\r\nhost: chat\r\n\r\n`.repeat(10))
  await once(socket, 'readable') // It reads the beginning and no more.
  await endsPromptly(t, server, 'SIGTERM')
})

t.test('the keep-alive timeout is what KEEP_ALIVE_TIMEOUT says', async (t) => {
  for (const [overrides, seconds] of [
    [{}, 72],
    [{ KEEP_ALIVE_TIMEOUT: 7 }, 7]
  ] as const) {
    const { app } = await startService(t, overrides)
    t.equal(app.server.keepAliveTimeout, seconds * 1000)
  }
})
