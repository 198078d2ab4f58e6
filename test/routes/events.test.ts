import { once } from 'node:events'
import { connect as dial } from 'node:net'
import t from 'tap'
import { startService } from '../helpers/app.ts'
import { config, connect } from '../helpers/database.ts'
import { startProxy } from '../helpers/proxy.ts'
import { openStream } from '../helpers/stream.ts'

t.test('what happens is told as it happens: messages created, updated and deleted, by whomever', async (t) => {
  const { call, register, url, database } = await startService(t)
  const { token, userId, nickname } = await register()
  const stream = await openStream(t, url)
  t.equal(stream.response.statusCode, 200)
  t.match(stream.response.headers, { 'content-type': 'text/event-stream; charset=utf-8', 'cache-control': /no-cache/, 'x-accel-buffering': 'no', 'x-request-id': String })

  const { body: message } = await call('POST', '/api/messages', { token, body: { text: 'hello\n"you"' } })
  await call('PATCH', `/api/messages/${message.id}`, { token, body: { text: 'hi' } })
  await call('DELETE', `/api/messages/${message.id}`, { token })
  const client = await connect(t, database)
  const { rows: [{ id }] } = await client.query("insert into chat_message (user_id, text, created_at) values ($1, 'by SQL', '2024-02-29 12:00:00+03') returning id", [userId])

  const events = await stream.events(4)
  t.strictSame(events.map(({ data }) => data), [
    { type: 'message_created', message },
    { type: 'message_updated', message: { ...message, text: 'hi' } },
    { type: 'message_deleted', id: message.id },
    { type: 'message_created', message: { id, userId, nickname, text: 'by SQL', createdAt: '2024-02-29T09:00:00.000Z' } }
  ])
  const ids = events.map(({ id }) => id)
  t.strictSame(ids, ids.toSorted((a, b) => a - b), 'the ids ascend')
  t.match(stream.text(), /^retry: \d+\n\n: connected\n\n/, 'the first bytes come at once')
})

t.test('a client that lists and then streams from the cursor misses nothing and sees nothing twice', async (t) => {
  const { call, register, post, url } = await startService(t)
  const { token } = await register()
  await post(token, 'before')
  const list = await call('GET', '/api/messages')
  await post(token, 'between')
  const stream = await openStream(t, url, `?since=${list.headers.get('x-event-cursor')}`)
  await post(token, 'after')
  const seen = [...list.body.map(({ text }: { text: string }) => text), ...(await stream.events(2)).map(({ data }) => data.message.text)]
  t.strictSame(seen, ['before', 'between', 'after'])

  await stream.close()
  const [first, second] = await stream.events(2)
  await post(token, 'while away')
  for (const [query, headers] of [
    [`?since=${second!.id}`, {}],
    ['', { 'last-event-id': `${second!.id}` }],
    [`?since=${first!.id}`, { 'last-event-id': `${second!.id}` }] // a browser that connects again asks for the address it knows
  ] as [string, Record<string, string>][]) {
    const again = await openStream(t, url, query, headers)
    t.equal((await again.events(1))[0]?.data.message.text, 'while away')
  }
})

t.test('a resume from further back than the memory reaches is read from the log', async (t) => {
  const { call, register, url, database } = await startService(t)
  const { userId } = await register()
  const client = await connect(t, database)
  const cursor = (await call('GET', '/api/messages')).headers.get('x-event-cursor')
  await client.query("insert into chat_message (user_id, text, created_at) select $1, 'message ' || n, now() from generate_series(1, 3000) n", [userId])
  await client.query("delete from chat_message where text = 'message 7'")
  await call('GET', `/api/messages?after_id=${2999}&wait=10`)

  const events = await (await openStream(t, url, `?since=${cursor}`)).events(3000)
  t.strictSame(events.filter(({ data }) => data.type === 'message_created').map(({ data }) => data.message.text),
    Array.from({ length: 3000 }, (_, i) => `message ${i + 1}`).filter((text) => text !== 'message 7'))
  t.match(events.at(-1)?.data, { type: 'message_deleted' })
})

t.test('a resume from before the start of the log, or after its end, is a reset', async (t) => {
  const { call, register, post, url, database } = await startService(t)
  const { token } = await register()
  for (const text of ['one', 'two', 'three']) await post(token, text)
  const client = await connect(t, database)
  await client.query('delete from chat_event where seq < (select max(seq) from chat_event) - 1')
  for (const since of [0, -5, 1_000_000]) {
    const cursor = Number((await call('GET', '/api/messages')).headers.get('x-event-cursor'))
    const stream = await openStream(t, url, `?since=${since}`)
    t.strictSame(await stream.events(1), [{ id: cursor, data: { type: 'reset' } }], `since=${since}`)
    await post(token, 'more')
    t.match((await stream.events(2))[1], { id: cursor + 1, data: { type: 'message_created' } }, 'and then it goes on')
  }
  const stream = await openStream(t, url, '', { 'last-event-id': 'nonsense' })
  t.equal((await stream.events(1))[0]?.data.type, 'reset', 'a browser is not turned away')
  t.match(await call('GET', '/api/events?since=1e3'), { status: 400, body: { error: 'since must be an integer', code: 'since_invalid' } })
})

t.test('what no event can tell is a reset: a table that was emptied at once, an author with another name', async (t) => {
  const { call, register, post, url, database } = await startService(t)
  const { token } = await register()
  await post(token, 'hello')
  const stream = await openStream(t, url)
  const client = await connect(t, database)
  await client.query("update chat_user set nickname = 'somebody else'")
  t.match((await stream.events(1))[0]?.data, { type: 'reset' })
  t.match((await call('GET', '/api/messages')).body, [{ nickname: 'somebody else', text: 'hello' }])
  await client.query('truncate chat_message')
  t.match((await stream.events(2))[1]?.data, { type: 'reset' })
  t.strictSame((await call('GET', '/api/messages')).body, [])
  t.match(await post(token, 'again'), { text: 'again' })
  t.match((await stream.events(3))[2]?.data, { type: 'message_created', message: { text: 'again' } })
})

t.test('a change reaches the streams of every replica, also when its announcement was lost', async (t) => {
  const first = await startService(t)
  const proxy = await startProxy(t, config.POSTGRES_HOST!, config.POSTGRES_PORT)
  const second = await startService(t, { POSTGRES_DB: first.database, POSTGRES_HOST: '127.0.0.1', POSTGRES_PORT: proxy.port })
  const { token } = await first.register()
  const stream = await openStream(t, second.url)
  await first.post(token, 'one')
  await stream.events(1)

  const client = await connect(t, first.database)
  let count = 1
  for (const [what, lose] of Object.entries({
    'the connection is ended': () => client.query("select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'chat-backend log'"),
    'the connection goes silent': async () => proxy.blackhole()
  })) {
    await lose()
    const posted = performance.now()
    await first.post(token, what)
    t.equal((await stream.events(++count)).at(-1)?.data.message.text, what)
    t.ok(performance.now() - posted < 2500, `${what}: told after ${Math.round(performance.now() - posted)} ms`)
  }
  await client.query(`create or replace function chat_event_created () returns trigger language plpgsql as $$ begin
    insert into chat_event (kind, message_id) select 'message_created', id from new_rows; return null; end $$`)
  await client.query("insert into chat_message (user_id, text, created_at) select id, 'unannounced', now() from chat_user")
  t.equal((await stream.events(++count)).at(-1)?.data.message.text, 'unannounced')
})

t.test('a reader that stops reading is cut off, and the others are not', async (t) => {
  const { call, register, url } = await startService(t)
  const { token } = await register()
  const other = await openStream(t, url)
  const socket = dial(Number(new URL(url).port), '127.0.0.1')
  socket.write('GET /api/events HTTP/1.1\r\nhost: chat\r\n\r\n')
  await once(socket, 'readable')
  socket.on('error', () => {})
  let sent = 0
  // 12 KB each: more than the kernel keeps for a reader who does not read.
  for (; sent < 1500; sent += 50) {
    await Promise.all(Array.from({ length: 50 }, () => call('POST', '/api/messages', { token, body: { text: '\u0001'.repeat(2000) } })))
  }
  let received = 0
  socket.on('data', ({ length }) => { received += length })
  await once(socket, 'close')
  t.ok(received < sent * 12_000, `after ${received} of ${sent * 12_000} bytes`)
  t.equal((await other.events(sent)).length, sent)
})

t.test('a stream in which nothing happens says every 15 s that it is still there', async (t) => {
  const { url } = await startService(t)
  const stream = await openStream(t, url)
  while (!stream.text().endsWith(': still here\n\n')) await once(stream.response, 'data')
  t.strictSame(await stream.events(0), [])
})

t.test('where there is no room for another stream, it ends in order', async (t) => {
  const { url } = await startService(t, { MAX_STREAMS: 1 })
  const first = await openStream(t, url)
  const second = await openStream(t, url)
  await second.ended
  t.equal(second.response.statusCode, 200)
  t.match(second.text(), /^retry: \d{4,5}\n\n$/)
  first.close()
  for (let isAdmitted = false; !isAdmitted;) {
    const next = await openStream(t, url)
    isAdmitted = await Promise.race([once(next.response, 'data').then(() => next.text().includes(': connected')), next.ended.then(() => false)])
  }
  t.pass('and room again')
})

t.test('streams and waiting requests end when the service does', async (t) => {
  const { app, url, call, register, post } = await startService(t)
  const { token } = await register()
  const { id } = await post(token, 'last')
  const stream = await openStream(t, url)
  const waiting = call('GET', `/api/messages?after_id=${id}&wait=25`)
  await once(app.server, 'request')
  const started = performance.now()
  await app.close()
  await stream.ended
  t.match(stream.text(), /retry: \d+\n\n$/)
  t.match(await waiting, { status: 200, body: [] })
  t.ok(performance.now() - started < 5000)
})
