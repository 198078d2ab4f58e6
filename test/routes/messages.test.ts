import { get } from 'node:http'
import t from 'tap'
import { startService } from '../helpers/app.ts'
import { connect } from '../helpers/database.ts'
import { printable } from '../helpers/printable.ts'
import { waitUntil } from '../helpers/raw.ts'

const sentences = {
  text_missing: 'message text must be provided',
  text_too_long: 'message is too long',
  text_invalid: 'message text must be a string without NUL',
  limit_invalid: 'limit must be a positive integer',
  after_id_invalid: 'after_id must be an integer',
  before_id_invalid: 'before_id must be an integer',
  wait_invalid: 'wait must be an integer from 0 to 25',
  wait_without_after_id: 'wait requires after_id',
  cursors_combined: 'after_id and before_id cannot be combined'
}

t.test('a posted message is returned as stored, and is in the list', async (t) => {
  const { call, register } = await startService(t)
  const { token, userId, nickname } = await register()
  const before = Date.now()
  const { status, body } = await call('POST', '/api/messages', {
    token,
    body: { text: '  hello, 世界 👋\n', id: 7, unknown: {} }
  })
  t.equal(status, 201)
  t.match(body, {
    id: Number,
    userId,
    nickname,
    text: 'hello, 世界 👋',
    createdAt: /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/
  })
  t.strictSame(Object.keys(body), ['id', 'userId', 'nickname', 'text', 'createdAt'])
  const createdAt = Date.parse(body.createdAt)
  t.ok(createdAt >= before - 1000 && createdAt <= Date.now() + 1000, 'it was created now')

  const list = await call('GET', '/api/messages')
  t.equal(list.status, 200)
  t.equal(list.headers.get('content-type'), 'application/json; charset=utf-8')
  t.strictSame(list.body, [body])
})

t.test('an empty room is an empty list', async (t) => {
  const { call } = await startService(t)
  for (const query of ['', '?after_id=0', '?before_id=9', '?after_id=9007199254740993', '?before_id=-5']) {
    t.match(
      await call('GET', `/api/messages${query}`),
      { status: 200, body: [] },
      `an empty list for ${query}`
    )
  }
})

t.test('texts of 1 to 2000 code points after trimming are stored as they were sent', async (t) => {
  const { call, register } = await startService(t)
  const { token } = await register()
  const post = (text: unknown) => call('POST', '/api/messages', { token, body: { text } })

  for (const [given, stored] of [
    ['я'.repeat(2000), 'я'.repeat(2000)],
    ['😀'.repeat(2000), '😀'.repeat(2000)],
    [' '.repeat(3000) + 'x'.repeat(2000) + '\n', 'x'.repeat(2000)],
    ['a\u0001b\u200d', 'a\u0001b\u200d'],
    ...[
      '👩‍👩‍👧',
      '❤️',
      '1️⃣',
      '🏴󠁧󠁢󠁳󠁣󠁴󠁿',
      '🇩🇪',
      'שָׁלוֹם',
      'ู',
      'مَرْحَبًا',
      '۝',
      '⠃⠗⠇',
      'ㅤㅤ.',
      '\uf8ff',
      '\u{1fae9}',
      '\u{1fb00}',
      '\u{1ffff}',
      '\ufffd',
      '\u0301'
    ].map((text) => [text, text]),
    ['lone \ud83d', 'lone \ufffd'],
    ['\u0085 \u0085next\u0085line \u0085', 'next\u0085line'],
    [`a${' \u0085'.repeat(900)}b`, `a${' \u0085'.repeat(900)}b`],
    ['<script>alert("x")</script>', '<script>alert("x")</script>'],
    ["'; drop table chat_message; --", "'; drop table chat_message; --"]
  ]) {
    const { status, body } = await post(given)
    t.equal(status, 201, printable(given))
    t.equal(body.text, stored)
  }
  t.equal((await call('GET', '/api/messages?limit=200')).body.length, 26)
})

t.test('texts that are invisible, too long, not strings or contain NUL are refused', async (t) => {
  const { call, register } = await startService(t)
  const { token } = await register()
  const post = (text: unknown) => call('POST', '/api/messages', { token, body: { text } })

  for (const [text, code] of [
    [undefined, 'text_missing'],
    [null, 'text_missing'],
    ['', 'text_missing'],
    [' \u00a0\u2003\n', 'text_missing'],
    ['\u0085', 'text_missing'],
    ...[
      '\u200b',
      '\u3164',
      '\u2800',
      '\u115f\u1160',
      '\uffa0',
      '\u200d\ufe0f',
      '\u00ad',
      '\u2060\ufeff',
      '\u200e\u200f',
      '\u202e',
      '\u034f',
      '\u180e',
      '\u17b4\u17b5',
      '\u{e0001}\u{e0041}',
      '\u{e0100}',
      '\u0001\u0002',
      '\u2028',
      '\u2029\u200b',
      '\u200b \u2800 \u3164',
      '\u2800'.repeat(2000),
      '\u{1d159}',
      '\u{13440}\u{13441}\u{13442}',
      '\ufff9\ufffb'
    ].map((text) => [text, 'text_missing'] as const),
    ['я'.repeat(2001), 'text_too_long'],
    ['😀'.repeat(2001), 'text_too_long'],
    ['a\u0000b', 'text_invalid'],
    [5, 'text_invalid'],
    [{}, 'text_invalid'],
    [true, 'text_invalid']
  ] as const) {
    t.match(await post(text), { status: 400, body: { error: sentences[code], code } }, printable(text))
  }
  t.strictSame((await call('GET', '/api/messages')).body, [], 'nothing was stored')
})

t.test('posting needs a session', async (t) => {
  const { call, register } = await startService(t)
  const { token } = await register()
  const post = (headers: Record<string, string>) =>
    call('POST', '/api/messages', { headers, body: { text: 'hi' } })

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
  t.match(
    await call('POST', '/api/messages', { raw: '{', headers: { 'content-type': 'text/plain' } }),
    { status: 401 },
    'who may not post is told so before the body is read'
  )
})

t.test("a deleted user's token is invalid immediately", async (t) => {
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
  await (
    await connect(t, database)
  ).query(
    `insert into chat_message (user_id, text, created_at)
     select id, 'message ' || n, now() from chat_user, generate_series(2, 250) n`
  )
  await call('GET', `/api/messages?after_id=${first}&wait=10`) // until the service knows of them
  const ids = async (query: string): Promise<number[]> =>
    (await call('GET', `/api/messages${query}`)).body.map(({ id }: { id: number }) => id - first + 1)
  const range = (from: number, to: number) =>
    Array.from({ length: to - from + 1 }, (_, index) => from + index)
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
  for (
    let page = await ids('?after_id=0');
    page.length > 0;
    page = await ids(`?after_id=${at(seen.at(-1)!)}`)
  ) {
    seen.push(...page)
  }
  t.strictSame(seen, range(1, 250), 'a reader that follows after_id sees all of them once, in order')
})

t.test('an invalid query is refused with its own error code', async (t) => {
  const { call } = await startService(t)
  for (const [query, code] of [
    ['limit=0', 'limit_invalid'],
    ['limit=-1', 'limit_invalid'],
    ['limit=abc', 'limit_invalid'],
    ['limit=1e2', 'limit_invalid'],
    ['limit=1.5', 'limit_invalid'],
    ['limit=+5', 'limit_invalid'],
    ['limit=%D9%A3', 'limit_invalid'],
    ['limit=x&limit=2', 'limit_invalid'],
    ['after_id=1e3', 'after_id_invalid'],
    ['after_id=0x10', 'after_id_invalid'],
    ['after_id=%205', 'after_id_invalid'],
    ['after_id=--5', 'after_id_invalid'],
    ['before_id=null', 'before_id_invalid'],
    ['after_id=1&wait=26', 'wait_invalid'],
    ['after_id=1&wait=-1', 'wait_invalid'],
    ['after_id=1&wait=soon', 'wait_invalid'],
    ['wait=5', 'wait_without_after_id'],
    ['before_id=1&wait=5', 'wait_without_after_id'],
    ['after_id=&wait=5', 'wait_without_after_id'],
    ['after_id=1&before_id=5', 'cursors_combined']
  ] as const) {
    t.match(
      await call('GET', `/api/messages?${query}`),
      { status: 400, body: { error: sentences[code], code } },
      query
    )
  }
})

t.test(
  'an empty parameter counts as absent, the first of a repeated one wins, and an unknown one is ignored',
  async (t) => {
    const { call, register, post } = await startService(t)
    const { token } = await register()
    const ids = [
      (await post(token, 'one')).id,
      (await post(token, 'two')).id,
      (await post(token, 'three')).id
    ]
    const [one, two] = ids
    for (const [query, expected] of [
      ['limit=&after_id=&before_id=&wait=', ids],
      ['&&=&limit', ids],
      ['limit=&limit=1', ids],
      ['limit=1&limit=2&limit=x', ids.slice(2)],
      ['limit=1&limit=', ids.slice(2)],
      [`after_id=${one}&after_id=${two}`, ids.slice(1)],
      [`after_id=${two}&before_id=`, ids.slice(2)],
      [`before_id=${two}&after_id=&before_id=x`, ids.slice(0, 1)],
      [`after_id=${one}&wait=&wait=x`, ids.slice(1)],
      ['limit=1&wait=', ids.slice(2)],
      ['unknown=1&__proto__=x&constructor=y&limit=1', ids.slice(2)],
      ['li%6Dit=1', ids.slice(2)]
    ] as const) {
      const { status, body } = await call('GET', `/api/messages?${query}`)
      t.strictSame([status, body.map(({ id }: { id: number }) => id)], [200, expected], query)
    }
  }
)

t.test('a long poll waits for its first message', async (t) => {
  const { app, call, register, post, url } = await startService(t)
  const { token } = await register()
  const { id: first } = await post(token, 'first')
  const list = (after: number, wait: number) => call('GET', `/api/messages?after_id=${after}&wait=${wait}`)

  t.match((await list(0, 25)).body, [{ text: 'first' }], 'what is there already is not waited for')
  const waiting = [list(first, 25), list(first, 25), list(first + 1, 25)]
  await waitUntil('three requests wait', () => app.room.longPolls.size === 3)
  await post(token, 'second')
  for (const { body } of await Promise.all(waiting.slice(0, 2))) t.match(body, [{ text: 'second' }])
  await post(token, 'third')
  t.match((await waiting[2])?.body, [{ text: 'third' }], 'who waits for a later one is not answered before')

  const started = performance.now()
  t.match(await list(first + 2, 1), { status: 200, body: [] })
  const waited = performance.now() - started
  t.ok(waited > 900 && waited < 3000, `an empty list after ${Math.round(waited)} ms`)

  const left = get(`${url}/api/messages?after_id=${first + 2}&wait=25`, { agent: false }).on(
    'error',
    () => {}
  )
  await waitUntil('a request waits', () => app.room.longPolls.size === 1)
  left.destroy()
  await waitUntil('the one who has left is forgotten', () => app.room.longPolls.size === 0)
})

t.test('a message is edited and deleted by its author, and by nobody else', async (t) => {
  const { call, register, post, database } = await startService(t)
  const [author, other, gone] = [await register(), await register(), await register()]
  const message = await post(author.token, 'hello')
  const path = `/api/messages/${message.id}`
  const notFound = { status: 404, body: { error: 'message not found', code: 'message_not_found' } }
  const text = (text: unknown, token = author.token) => call('PATCH', path, { token, body: { text } })

  const { status, body: edited } = await text('  hi 👋 ')
  t.equal(status, 200)
  t.match(edited, { ...message, text: 'hi 👋', editedAt: /Z$/ })
  t.strictSame((await call('GET', '/api/messages')).body, [edited], 'who wrote reads what was written')
  for (const [given, sentence] of [
    ['', 'message text must be provided'],
    ['\u200b\u3164', 'message text must be provided'],
    ['x'.repeat(2001), 'message is too long'],
    [5, sentences.text_invalid]
  ]) {
    t.match(await text(given), { status: 400, body: { error: sentence } })
  }
  t.match(await text('mine now', other.token), notFound)
  t.match(await call('DELETE', path, { token: other.token }), notFound)
  t.match(await call('PATCH', '/api/messages/999', { token: author.token, body: { text: 'x' } }), notFound)
  t.match(await call('DELETE', '/api/messages/99999999999999999999', { token: author.token }), notFound)
  for (const method of ['PATCH', 'DELETE']) {
    t.match(await call(method, path), { status: 401, body: { code: 'authorization_missing' } })
  }
  await (await connect(t, database)).query('delete from chat_user where id = $1', [gone.userId])
  t.match(await call('DELETE', path, { token: gone.token }), {
    status: 401,
    body: { error: 'user not found' }
  })
  t.match(await text('x', gone.token), { status: 401, body: { error: 'user not found' } })

  t.match(await call('DELETE', path, { token: author.token, raw: '' }), {
    status: 200,
    body: { id: message.id, status: 'deleted' }
  })
  t.strictSame((await call('GET', '/api/messages')).body, [])
  t.match(await call('DELETE', path, { token: author.token }), notFound, 'already deleted')
  t.match(await text('x'), notFound)
})

t.test('a HEAD request gets the headers of the list', async (t) => {
  const { url, register, post } = await startService(t)
  await post((await register()).token, 'hello, 世界 👋')
  const list = await fetch(`${url}/api/messages`)
  t.not(await list.text(), '[]')
  const head = await fetch(`${url}/api/messages`, { method: 'HEAD' })
  t.equal(head.status, 200)
  t.equal(await head.text(), '')
  for (const name of ['content-type', 'content-length', 'x-event-cursor']) {
    t.type(list.headers.get(name), 'string', name)
    t.equal(head.headers.get(name), list.headers.get(name), name)
  }
})
