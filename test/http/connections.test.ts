import { once } from 'node:events'
import { request } from 'node:http'
import { Duplex } from 'node:stream'
import { Worker } from 'node:worker_threads'
import t from 'tap'
import { startQuietService, startService } from '../helpers/app.ts'
import { connect } from '../helpers/database.ts'
import { openRaw, waitUntil } from '../helpers/raw.ts'
import { openStream } from '../helpers/stream.ts'

const get = (path: string, headers = '') => `GET ${path} HTTP/1.1\r\nhost: x\r\n${headers}\r\n`

t.test('pipelined requests are answered in order, one after the other', async (t) => {
  const { url, register, post } = await startService(t)
  const { token } = await register()
  const { socket, until } = await openRaw(t, url)
  const paths = ['/api/messages?after_id=0&wait=20', '/health/livez', '/api/nothing', '/api/messages']
  socket.write(paths.map((path) => get(path)).join(''))
  await post(token, 'the first answer waits for this')
  const text = await until(/the first answer waits for this/, 2)
  const statuses = [...text.matchAll(/HTTP\/1.1 (\d+)/g)].map(([, status]) => status)
  t.strictSame(statuses, ['200', '200', '404', '200'])
})

t.test('of too many pipelined requests the first are answered, then the connection closes', async (t) => {
  const { url } = await startService(t)
  for (const path of ['/api/messages', '/health/livez', '/api/messages?limit=1&before_id=5']) {
    const { socket, closed } = await openRaw(t, url)
    socket.write(get(path).repeat(500))
    t.equal((await closed).match(/HTTP\/1.1 200/g)?.length, 17, path)
  }
})

t.test('pipelined requests of a closed connection leave nothing behind', async (t) => {
  const { url, app } = await startService(t)
  const { streams } = app.room
  const polls = async () => {
    const metrics = await app.metrics.registry.metrics()
    return Number(/^chat_long_polls (\d+)$/m.exec(metrics)?.[1])
  }
  for (const [path, count] of [
    ['/api/events', 1820],
    ['/api/events?since=0', 200],
    ['/api/events', 2],
    ['/api/messages?after_id=0&wait=20', 900]
  ] as const) {
    for (const how of ['destroy', 'resetAndDestroy', 'end'] as const) {
      const clients = await Promise.all(Array.from({ length: 6 }, () => openRaw(t, url)))
      for (const { socket } of clients) socket.write(get(path).repeat(count))
      await waitUntil('the first of them are handled', async () => streams.size + (await polls()) === 6)
      for (const { socket } of clients) socket[how]()
      const isReleased = async () => streams.size + (await polls()) === 0
      await waitUntil(`all is released: ${path}, ${how}`, isReleased, 15_000)
    }
  }
})

t.test('requests beyond the limit are refused, however many connections send them', async (t) => {
  const { url } = await startService(t)
  const clients = await Promise.all(Array.from({ length: 20 }, () => openRaw(t, url)))
  let open = clients.length
  for (const { closed } of clients) closed.then(() => open--)
  // The first waits for longer than this test.
  for (const { socket } of clients) socket.write(get('/api/messages?after_id=0&wait=25').repeat(1500))
  await waitUntil('most of the connections are closed', async () => open <= 14)
  t.ok(open > 0, 'those within the limit are not')
})

t.test('a stream holds nothing but events, whatever is sent after its request', async (t) => {
  const { url, register, post } = await startService(t)
  const { token } = await register()
  for (const rest of [
    'NONSENSE\r\n\r\n',
    get('/health/livez'),
    '\0\0\0\0',
    'POST /api/login HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\n{"a"'
  ]) {
    const early = await openRaw(t, url)
    early.socket.write(get('/api/events') + rest)
    const late = await openRaw(t, url)
    late.socket.write(get('/api/events'))
    await late.until(/retry: /)
    late.socket.write(rest)
    await post(token, 'an event')
    const reader = await openRaw(t, url)
    reader.socket.write(get('/api/events?since=1'))
    await reader.until(/an event/)
    for (const { socket, closed, text } of [early, late]) {
      socket.end()
      await closed
      const answers = text().match(/HTTP\/1.1/g) ?? []
      t.ok(answers.length <= 1, `no second answer, whatever follows: ${JSON.stringify(rest.slice(0, 12))}`)
      t.notMatch(text(), /"error"/)
    }
  }
})

t.test('garbage after a valid request is refused after the response to that request', async (t) => {
  const { url } = await startService(t)
  const { socket, closed } = await openRaw(t, url)
  socket.write(`${get('/health/livez')}NONSENSE\r\n\r\n`)
  t.match(await closed, /^HTTP\/1.1 200 OK[^]*{"status":"ok"}HTTP\/1.1 400 [^]*"code":"invalid_http"/)
})

t.test('a broken request is refused after the responses to earlier ones, without a wait', async (t) => {
  const { url, app, register, post, call } = await startService(t)
  const { token } = await register()
  const newest = await post(token, 'the newest')
  const head = ['POST /api/messages HTTP/1.1', 'host: x', `authorization: Bearer ${token}`]
  const json = 'content-type: application/json'
  const chunked = `${[...head, json, 'transfer-encoding: chunked'].join('\r\n')}\r\n\r\n`
  for (const [what, rest] of [
    ['no chunk', `${chunked}NONSENSE\r\n`],
    ['no chunk after the first', `${chunked}2\r\n{}NONSENSE\r\n`],
    ['a bad trailer', `${chunked}10\r\n{"text":"broken"}\r\n0\r\nno trailer\r\n\r\n`]
  ] as const) {
    const { socket, until } = await openRaw(t, url)
    const sent = performance.now()
    socket.write(get('/health/livez') + rest)
    t.match(await until(/"code":"invalid_http"/), /^HTTP\/1.1 200 OK[^]*HTTP\/1.1 400 /, what)
    t.ok(performance.now() - sent < 5000, 'at once')
  }

  const { socket, closed } = await openRaw(t, url)
  const body = '{"text":"too late"}'
  const late = [...head, json, `content-length: ${body.length}`].join('\r\n')
  const refused = once(app.server, 'clientError')
  socket.write(`${get(`/api/messages?after_id=${newest.id}&wait=25`)}${late}\r\n\r\n{`)
  await refused
  socket.write(body.slice(1))
  await post(token, 'the first answer waits for this')
  const statuses = [...(await closed).matchAll(/HTTP\/1.1 (\d+)/g)].map(([, status]) => status)
  t.strictSame(statuses, ['200', '408'], 'one answer for each request')
  const texts = (await call('GET', '/api/messages')).body.map(({ text }: { text: string }) => text)
  t.strictSame(texts, ['the newest', 'the first answer waits for this'], 'and no other is carried out')
})

t.test('nothing is carried out after a response that closes the connection', async (t) => {
  const { url, app, register, post, call } = await startService(t, { MAX_STREAMS: 1 })
  const { token } = await register()
  const messages = [await post(token, 'first'), await post(token, 'second'), await post(token, 'third')]
  const [first, second, third] = messages.map(({ id }) => `/api/messages/${id}`)
  const authorization = `authorization: Bearer ${token}\r\n`
  const remove = (path = '') => `DELETE ${path} HTTP/1.1\r\nhost: x\r\n${authorization}\r\n`
  await openStream(t, url)

  const stream = await openRaw(t, url)
  stream.socket.write(get('/api/events') + remove(first))
  t.match(await stream.closed, /^HTTP\/1.1 200 [^]*connection: close/i, 'a stream that is refused')

  app.drain.hasBegun = true
  const early = await openRaw(t, url)
  early.socket.write('POST /nowhere HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\n')
  t.match(await early.until(/"code":"not_found"/), /^HTTP\/1.1 404 [^]*connection: close/i)
  early.socket.write(`body${remove(second)}`)
  await early.closed

  t.equal((await call('DELETE', third!, { token })).status, 200)
  const texts = (await call('GET', '/api/messages')).body.map(({ text }: { text: string }) => text)
  t.strictSame(texts, ['first', 'second'])
})

t.test('an early response arrives completely while its request is still being sent', async (t) => {
  const { url } = await startService(t)
  const body = Buffer.alloc(900 * 1024, '{"a":1} ')
  for (const [line, headers, status] of [
    ['POST /api/login', 'content-type: application/json', 413],
    ['POST /api/register', 'content-type: text/plain', '41[35]'],
    ['POST /api/messages', 'content-type: application/json', 401],
    ['PUT /api/nothing', 'content-type: application/json', 404],
    ['POST /health/livez', '', 405],
    ['GET /api/messages', '', 200],
    ['GET /', '', 200],
    ['GET /api/nothing?%zz', '', 404],
    ['DELETE /api/sessions/%zz', '', 400],
    ['POST /api/login', 'expect: nothing-known', 417]
  ] as const) {
    for (const version of ['1.0', '1.1']) {
      for (const length of [`content-length: ${body.length}`, 'transfer-encoding: chunked']) {
        if (version === '1.0' && length.startsWith('transfer')) continue
        const { socket, closed } = await openRaw(t, url, { reads: false })
        let text = ''
        const head = [`${line} HTTP/${version}`, 'host: x', 'connection: close', headers, length]
        socket.write(`${head.filter(Boolean).join('\r\n')}\r\n\r\n`)
        const sent = length.startsWith('transfer')
          ? [`${body.length.toString(16)}\r\n`, body, '\r\n0\r\n\r\n']
          : [body]
        for (const part of sent) await new Promise((resolve) => socket.write(part, resolve))
        socket.setEncoding('utf8').on('data', (data) => {
          text += data
        })
        await closed
        // HTTP/1.0 has no expectations, so there the next rule applies.
        const expected = status === 417 && version === '1.0' ? 415 : status
        t.match(text, new RegExp(`^HTTP/1.1 ${expected} `), `${line} HTTP/${version}, ${length}`)
        const [, announced] = /content-length: (\d+)/i.exec(text) ?? []
        const answer = text.slice(text.indexOf('\r\n\r\n') + 4)
        t.equal(Buffer.byteLength(answer), Number(announced), 'the whole body')
      }
    }
  }
})

t.test('a connection whose request body was refused still serves the next request', async (t) => {
  const { url } = await startService(t)
  const { socket, until } = await openRaw(t, url)
  const json = 'content-type: application/json'
  const head = ['POST /api/messages HTTP/1.1', 'host: x', json, 'content-length: 200000']
  socket.write(`${head.join('\r\n')}\r\n\r\n${' '.repeat(200_000)}`)
  await until(/401/)
  socket.write(get('/health/livez'))
  t.match(await until(/"status":"ok"/), /401[^]*200 OK/)
})

t.test('an endless body is not read forever', async (t) => {
  const { url } = await startService(t)
  const { socket, closed } = await openRaw(t, url)
  const length = `content-length: ${2 ** 40}`
  socket.write(`POST /api/login HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n${length}\r\n\r\n`)
  const chunk = Buffer.alloc(64 * 1024)
  const send = () => {
    while (!socket.destroyed && socket.write(chunk));
  }
  socket.on('drain', send)
  send()
  t.match(await closed, /^HTTP\/1.1 413 /)
  t.ok(socket.bytesWritten < 64 * 1024 * 1024, `${socket.bytesWritten} bytes`)
})

/**
 * A connection whose client reads 64 KiB at a time, a few times a second. A socket cannot show that on one
 * machine, where the kernel keeps megabytes for it.
 */
class SlowConnection extends Duplex {
  readonly remoteAddress = '127.0.0.1'
  #taken = 0

  get bytesWritten(): number {
    return this.#taken + this.writableLength
  }

  override _read(): void {}

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    const take = () => {
      this.#taken += chunk.length
      done()
    }
    setTimeout(take, 100)
  }

  // What Node calls on a socket.
  setTimeout(): this {
    return this
  }

  destroySoon(): void {
    this.end(() => this.destroy())
  }
}

t.test('what is not read yet is bounded, also if each client reads a little all the time', async (t) => {
  const { app, register, database } = await startQuietService(t)
  const { userId } = await register()
  const client = await connect(t, database)
  const { rows } = await client.query<{ id: string }>(
    `insert into chat_message (user_id, text)
     select $1, repeat('a', 10000000) from generate_series(1, 10) returning id`,
    [userId]
  )
  const ids = rows.map(({ id }) => Number(id))
  await waitUntil('they can be read', () => app.room.timeline.newestId === ids.at(-1))
  const readers: SlowConnection[] = []
  for (const id of ids) {
    const connection = new SlowConnection()
    t.teardown(() => connection.destroy())
    readers.push(connection)
    app.server.emit('connection', connection)
    connection.push(get(`/api/messages?limit=1&before_id=${id + 1}`))
    await waitUntil('it is being sent a page', () => connection.writableLength > 0)
  }
  // 6 of these pages are 60 MB, and 7 are more than 64 MiB.
  const closed = () => readers.map(({ destroyed }) => destroyed)
  await waitUntil('some are closed', () => closed().filter(Boolean).length >= 4, 15_000)
  const expected = readers.map((_, n) => n < 4)
  t.strictSame(closed(), expected, 'those beyond the limit that have been reading the longest')
})

t.test('health checks are answered when all connections are in use; idle ones make room', async (t) => {
  const { url, app } = await startService(t, { MAX_CONNECTIONS: 5 })
  const ask = (path: string) =>
    new Promise<number>((resolve, reject) => {
      request(`${url}${path}`, { agent: false }, (response) => {
        response.resume()
        resolve(response.statusCode!)
      })
        .on('error', reject)
        .end()
    })
  const streams = await Promise.all(Array.from({ length: 5 }, () => openRaw(t, url)))
  for (const { socket, until } of streams) {
    socket.write(get('/api/events'))
    await until(/retry/)
  }
  const answers = await Promise.all(['/health/livez', '/health/readyz', '/api/messages', '/metrics'].map(ask))
  t.strictSame(answers, [200, 200, 503, 503])
  const silent = await openRaw(t, url)
  await silent.closed
  t.equal(app.room.streams.size, 5, 'those who are served are not disturbed')

  streams[0]!.socket.destroy()
  await waitUntil('there is room again', async () => (await ask('/api/messages')) === 200)
  const idle = await openRaw(t, url)
  idle.socket.write(get('/health/livez'))
  await idle.until(/ok/)
  t.equal(await ask('/api/messages'), 200, 'an idle connection makes room')
  await idle.closed
})

t.test(
  'when all connections are in use, a new stream ends in a way that browsers reconnect after',
  async (t) => {
    const { url, app } = await startService(t, { MAX_CONNECTIONS: 1 })
    const first = await openStream(t, url)
    for (const query of ['', '?since=0']) {
      const { response, text, ended } = await openStream(t, url, query)
      await ended
      t.equal(response.statusCode, 200)
      t.match(response.headers['content-type'], /^text\/event-stream/)
      t.match(text(), /^retry: \d{4,5}\n$/)
    }
    t.equal(app.room.streams.size, 1)
    first.close()
    await waitUntil('there is room again', () => app.room.streams.size === 0)
    await (await openStream(t, url)).events(0)
    t.equal(app.room.streams.size, 1)
  }
)

t.test('a connection that was just opened is not closed to make room for others', async (t) => {
  const { url } = await startService(t, { MAX_CONNECTIONS: 2 })
  const busy = await openRaw(t, url)
  busy.socket.write(get('/api/messages?after_id=0&wait=20'))
  // All of them in one moment, because a connection that sends nothing for a second does make room.
  const [probe, ...others] = await Promise.all(Array.from({ length: 11 }, () => openRaw(t, url)))
  for (const { socket } of others) socket.write(get('/api/messages'))
  t.match(await others[0]!.until(/"code":"busy"/), /^HTTP\/1.1 503/)
  probe!.socket.write(get('/health/livez'))
  t.match(await probe!.until(/"ok"/), /^HTTP\/1.1 200/)
})

t.test('health checks are answered however many connections are open beyond the limit', async (t) => {
  const { url } = await startService(t, { MAX_CONNECTIONS: 2 })
  const slow =
    'POST /api/login HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{'
  for (let n = 0; n < 300; n++) {
    const { socket } = await openRaw(t, url)
    socket.write(slow)
  }
  for (let n = 0; n < 3; n++) {
    const probe = await openRaw(t, url)
    probe.socket.write(get('/health/livez'))
    t.match(await probe.until(/"ok"/), /^HTTP\/1.1 200/)
  }
})

t.test('a body that is encoded is refused, in Transfer-Encoding as well', async (t) => {
  const { url } = await startService(t)
  const login = async (coding: string) => {
    const { socket, closed } = await openRaw(t, url)
    const json = 'content-type: application/json'
    const head = ['POST /api/login HTTP/1.1', 'host: x', 'connection: close', json]
    socket.write(`${[...head, `transfer-encoding: ${coding}`].join('\r\n')}\r\n\r\n2\r\n{}\r\n0\r\n\r\n`)
    return closed
  }
  for (const coding of ['gzip, chunked', 'gzip,chunked', 'deflate, chunked', 'x-unknown, chunked']) {
    t.match(await login(coding), /^HTTP\/1.1 415 [^]*"code":"encoded_body"/, coding)
  }
  t.match(await login('Chunked'), /^HTTP\/1.1 400 [^]*provided/, 'chunked alone is fine')
})

t.test('a request whose end is unknown is answered completely, then the connection closes', async (t) => {
  const { url } = await startService(t)
  for (const [line, coding, status, code] of [
    ['POST /api/login', 'identity', 400, 'invalid_http'],
    ['POST /api/login', 'xchunked', 400, 'invalid_http'],
    ['POST /api/login', 'chunked, gzip', 400, 'invalid_http'],
    ['GET /health/livez', 'identity', 400, 'invalid_http'],
    ['POST /nowhere', 'identity', 404, 'not_found']
  ] as const) {
    const { socket, closed } = await openRaw(t, url)
    const json = 'content-type: application/json'
    socket.write(`${line} HTTP/1.1\r\nhost: x\r\n${json}\r\ntransfer-encoding: ${coding}\r\n\r\n{}`)
    const [head = '', ...bodies] = (await closed).split('\r\n\r\n')
    t.match(head, new RegExp(`^HTTP/1.1 ${status} `), `${line}, ${coding}`)
    t.equal(bodies.length, 1)
    t.match(JSON.parse(bodies[0]!), { code })
  }
})

// In a thread, because the service must not accept a connection before all of them have left.
const LEAVE = `
  const { once } = require('node:events')
  const { connect } = require('node:net')
  const { workerData: { port, request, state } } = require('node:worker_threads')
  Atomics.wait(state, 0, 0)
  Promise.all(Array.from({ length: 20 }, async () => {
    const socket = connect(port, '127.0.0.1')
    await once(socket, 'connect')
    await new Promise((sent) => socket.write(request, sent))
    socket.resetAndDestroy()
  })).then(() => {
    Atomics.store(state, 0, 2)
    Atomics.notify(state, 0)
  })`

t.test('nothing is done for those who left before their connection was accepted', async (t) => {
  const { app, url, register, post } = await startService(t)
  const { token } = await register()
  const state = new Int32Array(new SharedArrayBuffer(4))
  const thread = new Worker(LEAVE, {
    eval: true,
    workerData: { port: Number(new URL(url).port), request: get('/api/messages'), state }
  })
  t.teardown(() => thread.terminate())
  Atomics.store(state, 0, 1)
  Atomics.notify(state, 0)
  t.equal(Atomics.wait(state, 0, 1, 30_000), 'ok', 'they have left')

  await post(token, 'of one who stays')
  const metrics = await app.metrics.registry.metrics()
  const requests = [...metrics.matchAll(/^http_request_duration_seconds_count\{(.+)\} (\d+)$/gm)]
  t.strictSame(requests.map(([, labels, count]) => `${labels} ${count}`).toSorted(), [
    'method="POST",route="/api/messages",status="201" 1',
    'method="POST",route="/api/register",status="201" 1'
  ])
})
