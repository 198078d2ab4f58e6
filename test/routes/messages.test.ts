import { get } from 'node:http'
import t from 'tap'
import { startService } from '../helpers/app.ts'
import { connect } from '../helpers/database.ts'

t.test('a message that is posted comes back as it was stored, and is in the list', async (t) => {
  const { call, register } = await startService(t)
  const { token, userId, nickname } = await register()
  const before = Date.now()
  const { status, body } = await call('POST', '/api/messages', { token, body: { text: '  hello, 世界 👋\n', id: 7, unknown: {} } })
  t.equal(status, 201)
  t.match(body, { id: Number, userId, nickname, text: 'hello, 世界 👋', createdAt: /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/ })
  t.strictSame(Object.keys(body), ['id', 'userId', 'nickname', 'text', 'createdAt'])
  t.ok(Math.abs(Date.parse(body.createdAt) - before) < 5000, 'it was created now')

  const list = await call('GET', '/api/messages')
  t.equal(list.status, 200)
  t.equal(list.headers.get('content-type'), 'application/json; charset=utf-8')
  t.strictSame(list.body, [body])
})

t.test('an empty room is an empty list', async (t) => {
  const { call } = await startService(t)
  for (const query of ['', '?after_id=0', '?before_id=9', '?after_id=9007199254740993', '?before_id=-5']) {
    t.match(await call('GET', `/api/messages${query}`), { status: 200, body: [] }, `an empty list for ${query}`)
  }
})

t.test('texts: 1 to 2000 code points after trimming, no NUL', async (t) => {
  const { call, register } = await startService(t)
  const { token } = await register()
  const post = (text: unknown) => call('POST', '/api/messages', { token, body: { text } })

  for (const [given, stored] of [
    ['я'.repeat(2000), 'я'.repeat(2000)],
    ['😀'.repeat(2000), '😀'.repeat(2000)],
    [' '.repeat(3000) + 'x'.repeat(2000) + '\n', 'x'.repeat(2000)],
    ['a\u0001b\u200d', 'a\u0001b\u200d'],
    ['lone \ud83d', 'lone \ufffd'],
    ['\u0085 \u0085next\u0085line \u0085', 'next\u0085line'],
    [`a${' \u0085'.repeat(900)}b`, `a${' \u0085'.repeat(900)}b`],
    ['<script>alert("x")</script>', '<script>alert("x")</script>'],
    ["'; drop table chat_message; --", "'; drop table chat_message; --"]
  ]) {
    const { status, body } = await post(given)
    t.equal(status, 201, JSON.stringify(given).slice(0, 60))
    t.equal(body.text, stored)
  }
  for (const [text, sentence] of [
    [undefined, 'message text must be provided'],
    [null, 'message text must be provided'],
    ['', 'message text must be provided'],
    [' \u00a0\u2003\n', 'message text must be provided'],
    ['\u0085', 'message text must be provided'],
    ['я'.repeat(2001), 'message is too long'],
    ['😀'.repeat(2001), 'message is too long'],
    ['a\u0000b', 'message text must not contain NUL'],
    [5, 'text must be a string'],
    [{}, 'text must be a string'],
    [true, 'text must be a string']
  ]) {
    const { status, body } = await post(text)
    t.equal(status, 400, JSON.stringify(text)?.slice(0, 60) ?? 'no text')
    t.match(body, { error: sentence, code: 'invalid_request' })
  }
  t.equal((await call('GET', '/api/messages?limit=200')).body.length, 9, 'what was refused was not stored')
})

t.test('posting needs a session', async (t) => {
  const { call, register } = await startService(t)
  const { token } = await register()
  const post = (headers: Record<string, string>) => call('POST', '/api/messages', { headers, body: { text: 'hi' } })

  for (const scheme of ['Bearer', 'bearer', 'BEARER']) {
    t.equal((await post({ authorization: `${scheme} ${token}` })).status, 201, scheme)
  }
  const format = "authorization header must be in the format 'Bearer <token>'"
  for (const [headers, sentence, code] of [
    [{}, 'authorization header is missing', 'authorization_missing'],
    [{ authorization: token }, format, 'authorization_malformed'],
    [{ authorization: 'Bearer' }, format, 'authorization_malformed'],
    [{ authorization: `Basic ${token}` }, format, 'authorization_malformed'],
    [{ authorization: `Bearer ${token} ${token}` }, format, 'authorization_malformed'],
    [{ authorization: 'Bearer 0123' }, 'session not found', 'session_not_found']
  ] as [Record<string, string>, string, string][]) {
    const { status, headers: answered, body } = await post(headers)
    t.equal(status, 401, JSON.stringify(headers))
    t.match(body, { error: sentence, code })
    t.equal(answered.get('www-authenticate'), 'Bearer')
  }
  t.match(await call('POST', '/api/messages', { raw: '{', headers: { 'content-type': 'text/plain' } }), { status: 401 },
    'who may not post is told so before the body is read')
})

t.test("a deleted user's token is worth nothing at once", async (t) => {
  const { call, register, database } = await startService(t)
  const { token, userId } = await register()
  const refused = { status: 401, body: { error: 'user not found', code: 'user_not_found' } }
  const client = await connect(t, database)
  // Deleted by another transaction between the look for the author and the end of the statement.
  await client.query(`
    create function delete_author () returns trigger language plpgsql as 'begin delete from chat_user where id = new.user_id; return new; end';
    create trigger delete_author before insert on chat_message for each row execute function delete_author()`)
  t.match(await call('POST', '/api/messages', { token, body: { text: 'boo' } }), refused)
  await client.query('drop trigger delete_author on chat_message')
  await client.query('delete from chat_user where id = $1', [userId])
  t.match(await call('POST', '/api/messages', { token, body: { text: 'boo' } }), refused)
  t.strictSame((await call('GET', '/api/messages')).body, [])
})

t.test('pages', async (t) => {
  const { call, register, post, database } = await startService(t)
  const { token } = await register()
  const { id: first } = await post(token, 'message 1')
  await (await connect(t, database)).query(
    `insert into chat_message (user_id, text, created_at)
     select id, 'message ' || n, now() from chat_user, generate_series(2, 250) n`)
  await call('GET', `/api/messages?after_id=${first}&wait=10`) // until the service knows of them
  const ids = async (query: string): Promise<number[]> =>
    (await call('GET', `/api/messages${query}`)).body.map(({ id }: { id: number }) => id - first + 1)
  const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, index) => from + index)
  const at = (n: number) => first + n - 1

  t.strictSame(await ids(''), range(201, 250), 'no cursor: the newest 50, ascending')
  t.strictSame(await ids('?limit=3'), range(248, 250))
  t.strictSame(await ids('?limit=200'), range(51, 250))
  t.strictSame(await ids('?limit=201'), range(51, 250), 'above 200 counts as 200')
  t.strictSame(await ids('?limit=99999999999999999999'), range(51, 250))
  t.strictSame(await ids(`?after_id=${at(10)}&limit=3`), range(11, 13), 'the oldest after')
  t.strictSame(await ids('?after_id=0&limit=2'), range(1, 2))
  t.strictSame(await ids('?after_id=-7'), range(1, 50))
  t.strictSame(await ids('?after_id=-99999999999999999999&limit=1'), [1])
  t.strictSame(await ids(`?after_id=${at(250)}`), [])
  t.strictSame(await ids(`?before_id=${at(10)}&limit=3`), range(7, 9), 'the newest before, ascending')
  t.strictSame(await ids(`?before_id=${at(1)}`), [])
  t.strictSame(await ids('?before_id=99999999999999999999&limit=2'), range(249, 250))

  const seen: number[] = []
  for (let page = await ids('?after_id=0'); page.length > 0; page = await ids(`?after_id=${at(seen.at(-1)!)}`)) seen.push(...page)
  t.strictSame(seen, range(1, 250), 'a reader that follows after_id sees all of them once, in order')
})

t.test('a query that means nothing is refused', async (t) => {
  const { call } = await startService(t)
  for (const [query, sentence] of [
    ['limit=0', 'limit must be at least 1'],
    ['limit=-1', 'limit must be at least 1'],
    ['limit=abc', 'limit must be a whole number'],
    ['limit=', 'limit must be a whole number'],
    ['limit=1e2', 'limit must be a whole number'],
    ['limit=1.5', 'limit must be a whole number'],
    ['limit=1&limit=2', 'limit must be a whole number'],
    ['after_id=1e3', 'after_id must be a whole number'],
    ['after_id=0x10', 'after_id must be a whole number'],
    ['after_id=%205', 'after_id must be a whole number'],
    ['after_id=1&wait=26', 'wait must be from 0 to 25 seconds'],
    ['after_id=1&wait=-1', 'wait must be from 0 to 25 seconds'],
    ['after_id=1&wait=soon', 'wait must be a whole number'],
    ['wait=5', 'wait needs after_id'],
    ['before_id=1&wait=5', 'wait needs after_id'],
    ['before_id=null', 'before_id must be a whole number'],
    ['after_id=1&before_id=5', 'after_id and before_id cannot be combined']
  ] as const) {
    const { status, body } = await call('GET', `/api/messages?${query}`)
    t.equal(status, 400, query)
    t.match(body, { error: sentence, code: 'invalid_request' })
  }
  t.equal((await call('GET', '/api/messages?unknown=1')).status, 200, 'an unknown parameter is ignored')
})

t.test('a list can wait for its first message', async (t) => {
  const { app, call, register, post, url } = await startService(t)
  const { token } = await register()
  const { id: first } = await post(token, 'first')
  const list = (after: number, wait: number) => call('GET', `/api/messages?after_id=${after}&wait=${wait}`)

  t.match((await list(0, 25)).body, [{ text: 'first' }], 'what is there already is not waited for')
  const waiting = [list(first, 25), list(first, 25), list(first + 1, 25)]
  while (app.room.timeline.listenerCount('messages') < 3) await new Promise(setImmediate)
  await post(token, 'second')
  for (const { body } of await Promise.all(waiting.slice(0, 2))) t.match(body, [{ text: 'second' }])
  await post(token, 'third')
  t.match((await waiting[2])?.body, [{ text: 'third' }], 'who waits for a later one is not answered before')

  const started = performance.now()
  t.match(await list(first + 2, 1), { status: 200, body: [] })
  const waited = performance.now() - started
  t.ok(waited > 900 && waited < 3000, `an empty list after ${Math.round(waited)} ms`)

  const left = get(`${url}/api/messages?after_id=${first + 2}&wait=25`, { agent: false }).on('error', () => {})
  while (app.room.timeline.listenerCount('messages') < 1) await new Promise(setImmediate)
  left.destroy()
  while (app.room.timeline.listenerCount('messages') > 0) await new Promise(setImmediate)
  t.pass('who has left is forgotten')
})

t.test('a message is edited and deleted by its author, and by nobody else', async (t) => {
  const { call, register, post, database } = await startService(t)
  const [author, other, gone] = [await register(), await register(), await register()]
  const message = await post(author.token, 'hello')
  const path = `/api/messages/${message.id}`
  const notFound = { status: 404, body: { error: 'there is no such message of yours', code: 'message_not_found' } }
  const text = (text: unknown, token = author.token) => call('PATCH', path, { token, body: { text } })

  t.match(await text('  hi 👋 '), { status: 200, body: { ...message, text: 'hi 👋' } })
  t.strictSame((await call('GET', '/api/messages')).body, [{ ...message, text: 'hi 👋' }], 'who wrote reads what was written')
  for (const [given, sentence] of [['', 'message text must be provided'], ['x'.repeat(2001), 'message is too long'], [5, 'text must be a string']]) {
    t.match(await text(given), { status: 400, body: { error: sentence } })
  }
  t.match(await text('mine now', other.token), notFound)
  t.match(await call('DELETE', path, { token: other.token }), notFound)
  t.match(await call('PATCH', '/api/messages/999', { token: author.token, body: { text: 'x' } }), notFound)
  t.match(await call('DELETE', '/api/messages/99999999999999999999', { token: author.token }), notFound)
  for (const method of ['PATCH', 'DELETE']) t.match(await call(method, path), { status: 401, body: { code: 'authorization_missing' } })
  await (await connect(t, database)).query('delete from chat_user where id = $1', [gone.userId])
  t.match(await call('DELETE', path, { token: gone.token }), { status: 401, body: { error: 'user not found' } })
  t.match(await text('x', gone.token), { status: 401, body: { error: 'user not found' } })

  t.match(await call('DELETE', path, { token: author.token, raw: '' }), { status: 200, body: { id: message.id, status: 'deleted' } })
  t.strictSame((await call('GET', '/api/messages')).body, [])
  t.match(await call('DELETE', path, { token: author.token }), notFound, 'already deleted')
  t.match(await text('x'), notFound)
})

t.test('a HEAD request gets the headers of the list', async (t) => {
  const { url } = await startService(t)
  const response = await fetch(`${url}/api/messages`, { method: 'HEAD' })
  t.equal(response.status, 200)
  t.equal(await response.text(), '')
})
