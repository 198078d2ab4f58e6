import { once } from 'node:events'
import t from 'tap'
import { startService } from '../helpers/app.ts'
import { measure } from '../helpers/clock.ts'
import { config, connect } from '../helpers/database.ts'
import { startProxy } from '../helpers/proxy.ts'
import { openRaw, waitUntil } from '../helpers/raw.ts'
import { openStream } from '../helpers/stream.ts'

t.test('a stream gets every change at once, whoever makes it', async (t) => {
  const { call, register, url, database } = await startService(t)
  const { token, userId, nickname } = await register()
  const stream = await openStream(t, url)
  t.equal(stream.response.statusCode, 200)
  t.match(stream.response.headers, {
    'content-type': 'text/event-stream; charset=utf-8',
    'cache-control': /no-cache/,
    'x-accel-buffering': 'no',
    'x-request-id': String
  })

  const { body: message } = await call('POST', '/api/messages', { token, body: { text: 'hello\n"you"' } })
  const { body: edited } = await call('PATCH', `/api/messages/${message.id}`, {
    token,
    body: { text: 'hi' }
  })
  t.match(edited, { ...message, text: 'hi', editedAt: /Z$/ })
  await call('DELETE', `/api/messages/${message.id}`, { token })
  const client = await connect(t, database)
  const {
    rows: [{ id }]
  } = await client.query(
    "insert into chat_message (user_id, text, created_at) values ($1, 'by SQL', '2024-02-29 12:00:00+03') returning id",
    [userId]
  )

  const events = await stream.events(4)
  t.strictSame(
    events.map(({ data }) => data),
    [
      { type: 'message_created', message },
      { type: 'message_updated', message: edited },
      { type: 'message_deleted', id: message.id },
      {
        type: 'message_created',
        message: { id, userId, nickname, text: 'by SQL', createdAt: '2024-02-29T09:00:00.000Z' }
      }
    ]
  )
  const ids = events.map(({ id }) => id)
  t.strictSame(
    ids,
    ids.toSorted((a, b) => a - b),
    'the ids ascend'
  )
  t.match(stream.text(), /^retry: \d+\n: connected\n/, 'the first bytes come at once')
})

t.test(
  'a client that lists and then streams from the cursor misses nothing and sees nothing twice',
  async (t) => {
    const { call, register, post, url } = await startService(t)
    const { token } = await register()
    await post(token, 'before')
    const list = await call('GET', '/api/messages')
    await post(token, 'between')
    const stream = await openStream(t, url, `?since=${list.headers.get('x-event-cursor')}`)
    await post(token, 'after')
    const seen = [
      ...list.body.map(({ text }: { text: string }) => text),
      ...(await stream.events(2)).map(({ data }) => data.message.text)
    ]
    t.strictSame(seen, ['before', 'between', 'after'])

    await stream.close()
    const [first, second] = await stream.events(2)
    await post(token, 'while away')
    for (const [query, headers] of [
      [`?since=${second!.id}`, {}],
      ['', { 'last-event-id': `${second!.id}` }],
      // A browser that connects again asks for the address it knows.
      [`?since=${first!.id}`, { 'last-event-id': `${second!.id}` }]
    ] as [string, Record<string, string>][]) {
      const again = await openStream(t, url, query, headers)
      t.equal((await again.events(1))[0]?.data.message.text, 'while away')
    }
  }
)

t.test('resuming from further back than the memory reaches reads the log', async (t) => {
  const { app, call, register, url, database } = await startService(t)
  const { userId } = await register()
  const client = await connect(t, database)
  const cursor = (await call('GET', '/api/messages')).headers.get('x-event-cursor')
  await client.query(
    "insert into chat_message (user_id, text, created_at) select $1, 'message ' || n, now() from generate_series(1, 3000) n",
    [userId]
  )
  await client.query("delete from chat_message where text = 'message 7'")
  await waitUntil('the replica has read the log', () => app.room.timeline.newestId === 3000, 60_000)

  const events = await (await openStream(t, url, `?since=${cursor}`)).events(3000)
  t.strictSame(
    events.filter(({ data }) => data.type === 'message_created').map(({ data }) => data.message.text),
    Array.from({ length: 3000 }, (_, i) => `message ${i + 1}`).filter((text) => text !== 'message 7')
  )
  t.match(events.at(-1)?.data, { type: 'message_deleted' })
})

t.test('a stream continues after a long part of the log without events', async (t) => {
  const { call, register, post, url, database } = await startService(t)
  const { userId, token } = await register()
  const client = await connect(t, database)
  const cursor = (await call('GET', '/api/messages')).headers.get('x-event-cursor')
  await client.query(
    "insert into chat_message (user_id, text, created_at) select $1, 'soon gone', now() from generate_series(1, 1500)",
    [userId]
  )
  await client.query('delete from chat_message')
  await post(token, 'the newest')

  const events = await (await openStream(t, url, `?since=${cursor}`)).events(1501)
  t.ok(events.slice(0, -1).every(({ data }) => data.type === 'message_deleted'))
  t.match(events.at(-1)?.data, { type: 'message_created', message: { text: 'the newest' } })
})

t.test('resuming before the start of the log, or after its end, gives a reset', async (t) => {
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
    t.match(
      (await stream.events(2))[1],
      { id: cursor + 1, data: { type: 'message_created' } },
      'and then it goes on'
    )
  }
  const stream = await openStream(t, url, '', { 'last-event-id': 'nonsense' })
  t.equal((await stream.events(1))[0]?.data.type, 'reset', 'a browser is not turned away')
  t.match(await call('GET', '/api/events?since=1e3'), {
    status: 400,
    body: { error: 'since must be an integer', code: 'since_invalid' }
  })
})

t.test('truncating the table or renaming an author sends a reset', async (t) => {
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
  const second = await startService(t, {
    POSTGRES_DB: first.database,
    POSTGRES_HOST: '127.0.0.1',
    POSTGRES_PORT: proxy.port
  })
  const { token } = await first.register()
  const stream = await openStream(t, second.url)
  await first.post(token, 'one')
  await stream.events(1)

  const client = await connect(t, first.database)
  let count = 1
  for (const [what, lose] of Object.entries({
    'the connection is ended': () =>
      client.query(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'chat-backend log'"
      ),
    'the connection goes silent': async () => proxy.blackhole()
  })) {
    await lose()
    const { done: events, ms } = await measure(async () => {
      await first.post(token, what)
      return stream.events(++count)
    })
    t.equal(events.at(-1)?.data.message.text, what)
    t.ok(ms < 2500, `${what}: told after ${Math.round(ms)} ms`)
  }
  await client.query(`create or replace function chat_event_created () returns trigger language plpgsql as $$ begin
    insert into chat_event (kind, message_id) select 'message_created', id from new_rows; return null; end $$`)
  await client.query(
    "insert into chat_message (user_id, text, created_at) select id, 'unannounced', now() from chat_user"
  )
  t.equal((await stream.events(++count)).at(-1)?.data.message.text, 'unannounced')
})

/** Lets a user post 12 KB at a time, much more than the kernel keeps for a reader who does not read. */
async function fill(post: (token: string, text: string) => Promise<unknown>, token: string, count: number) {
  for (let sent = 0; sent < count; sent += 50) {
    await Promise.all(Array.from({ length: 50 }, () => post(token, 'x'.padEnd(2000, '\u0001'))))
  }
}

t.test('a reader that pauses misses nothing, and does not delay others', async (t) => {
  const { register, post, url } = await startService(t)
  const { token } = await register()
  const other = await openStream(t, url)
  const slow = await openStream(t, url)
  slow.response.pause()
  await fill(post, token, 1500)
  t.equal((await other.events(1500)).length, 1500)
  slow.response.resume()
  const ids = (await slow.events(1500)).map(({ data }) => data.message.id)
  t.strictSame(
    ids,
    (await other.events(1500)).map(({ data }) => data.message.id)
  )
})

t.test('a reader that stops reading is disconnected', async (t) => {
  const { app, register, post, url } = await startService(t)
  const { token } = await register()
  const other = await openStream(t, url)
  for (const query of ['', '?since=1']) {
    const { socket } = await openRaw(t, url, { reads: false })
    socket.write(`GET /api/events${query} HTTP/1.1\r\nhost: chat\r\n\r\n`)
  }
  await waitUntil('all of them are open', () => app.room.streams.size === 3)
  await fill(post, token, 1000)
  await waitUntil('those that do not read are closed', () => app.room.streams.size === 1, 60_000)
  t.equal((await other.events(1000)).length, 1000)
})

t.test('a message of many megabytes and what follows it reach a slow reader', async (t) => {
  const { register, url, database, post } = await startService(t)
  const { token, userId } = await register()
  const client = await connect(t, database)
  const slow = await openStream(t, url)
  const far = await openStream(t, url, '?since=1')
  const pace = setInterval(() => {
    for (const { response } of [slow, far]) setTimeout(() => response.pause(), 5)
    for (const { response } of [slow, far]) response.resume()
  }, 20)
  t.teardown(() => clearInterval(pace))
  await client.query(
    "insert into chat_message (user_id, text, created_at) values ($1, repeat('x', 12000000), now())",
    [userId]
  )
  await post(token, 'after it')
  for (const stream of [slow, far]) {
    const events = await stream.events(2)
    t.strictSame(
      events.map(({ data }) => data.message.text.length),
      [12_000_000, 8]
    )
  }
})

t.test('a client that is too far behind must reload the list', async (t) => {
  const { app, call, register, url, database } = await startService(t)
  const { userId } = await register()
  const client = await connect(t, database)
  const cursor = Number((await call('GET', '/api/messages')).headers.get('x-event-cursor'))
  const insert =
    'insert into chat_message (user_id, text, created_at) select $1, n::text, now() from generate_series(1, $2) n'
  await client.query(insert, [userId, 10_500])
  await waitUntil('the log is followed', () => app.room.timeline.seq === cursor + 10_500, 60_000)
  const [first] = await (await openStream(t, url, `?since=${cursor}`)).events(1)
  t.strictSame(first, { id: cursor + 10_500, data: { type: 'reset' } })
  const [next] = await (await openStream(t, url, `?since=${cursor + 501}`)).events(1)
  t.match(next, { id: cursor + 502, data: { type: 'message_created' } }, 'as long as it is not')
})

t.test('an event contains no character that some readers treat as a line break', async (t) => {
  const { register, post, url } = await startService(t)
  const { token } = await register()
  const stream = await openStream(t, url)
  const text = 'a\u2028b\u2029c\u0085d\u000be\u000cf\u001cg'
  await post(token, text)
  const [event] = await stream.events(1)
  t.equal(event?.data.message.text, text)
  // Where Python's str.splitlines splits.
  const separators = ['\u0085', '\u2028', '\u2029', '\v', '\f', '\u001c', '\u001d', '\u001e']
  t.strictSame(
    separators.filter((separator) => stream.text().includes(separator)),
    []
  )
})

t.test('no block is sent without data, and HTTP/1.0 clients get no chunks', async (t) => {
  const { register, post, url } = await startService(t)
  const { token } = await register()
  for (const version of ['1.0', '1.1']) {
    const { socket, until } = await openRaw(t, url)
    socket.write(`GET /api/events HTTP/${version}\r\nhost: chat\r\n\r\n`)
    await until(/: connected/)
    await post(token, 'one')
    await post(token, 'two')
    const [head = '', body = ''] = (await until(/"two".*\n\n/)).split(/\r\n\r\n/)
    t.equal(/transfer-encoding: chunked/i.test(head), version === '1.1')
    const lines = version === '1.0' ? body : body.replace(/^[0-9a-f]+\r\n|\r\n$/gm, '').replaceAll('\r\n', '')
    t.match(lines, /^retry: \d+\n: connected\nid: \d+\ndata: .+\n\nid: \d+\ndata: .+\n\n$/, `HTTP/${version}`)
  }
})

t.test('one address can only open so many streams, unless many people may be behind it', async (t) => {
  const { app, url } = await startService(t, { MAX_STREAMS_PER_ADDRESS: 2, MAX_STREAMS: 5 })
  const open = async (from: string, headers: string) => {
    const raw = await openRaw(t, url, { from })
    raw.socket.write(`GET /api/events HTTP/1.1\r\nhost: chat\r\n${headers}\r\n`)
    const text = await raw.until(/retry: \d+\n/)
    return { raw, isAdmitted: text.includes(': connected') }
  }
  const first = await open('127.0.0.1', '')
  t.ok(first.isAdmitted)
  t.ok((await open('127.0.0.1', '')).isAdmitted)
  t.notOk((await open('127.0.0.1', '')).isAdmitted)
  t.ok((await open('127.0.0.2', '')).isAdmitted, 'another address')
  t.ok((await open('127.0.0.1', 'x-forwarded-for: 203.0.113.7\r\n')).isAdmitted, 'a proxy that nobody knows')
  first.raw.socket.destroy()
  await waitUntil('it is closed', () => app.room.streams.size === 3)
  t.ok((await open('127.0.0.1', '')).isAdmitted, 'and room again')
})

t.test('a quiet stream sends a comment every 15 s', async (t) => {
  const { url } = await startService(t)
  const stream = await openStream(t, url)
  await waitUntil('a comment has come', () => stream.text().endsWith(': still here\n'))
  t.strictSame(await stream.events(0), [])
})

t.test('beyond the limit a stream ends normally', async (t) => {
  const { url } = await startService(t, { MAX_STREAMS: 1 })
  const first = await openStream(t, url)
  const second = await openStream(t, url)
  await second.ended
  t.equal(second.response.statusCode, 200)
  t.match(second.text(), /^retry: \d{4,5}\n$/)
  first.close()
  await waitUntil('there is room again', async () => {
    const next = await openStream(t, url)
    return Promise.race([
      once(next.response, 'data').then(() => next.text().includes(': connected')),
      next.ended.then(() => false)
    ])
  })
})

t.test('streams and long polls end when the service shuts down', async (t) => {
  const { app, url, call, register, post } = await startService(t)
  const { token } = await register()
  const { id } = await post(token, 'last')
  const stream = await openStream(t, url)
  const waiting = call('GET', `/api/messages?after_id=${id}&wait=25`)
  await once(app.server, 'request')
  const started = performance.now()
  await app.close()
  await stream.ended
  t.match(stream.text(), /retry: \d+\n$/)
  t.match(await waiting, { status: 200, body: [] })
  t.ok(performance.now() - started < 5000)
})
