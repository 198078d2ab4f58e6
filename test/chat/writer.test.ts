import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { startService } from '../helpers/app.ts'
import { measure } from '../helpers/clock.ts'
import { admin, config, connect } from '../helpers/database.ts'
import { startProxy } from '../helpers/proxy.ts'
import { waitUntil } from '../helpers/raw.ts'
import { openStream } from '../helpers/stream.ts'

const range = (count: number) => Array.from({ length: count }, (_, i) => i)

t.test('simultaneous posts share few commits, and each is stored once under its own author', async (t) => {
  const { app, call, register, database } = await startService(t)
  const users = await Promise.all(range(5).map(register))
  const client = await connect(t, database)
  const answers = await Promise.all(
    range(300).map(async (n) => {
      const { token, userId, nickname } = users[n % users.length]!
      const { status, body } = await call('POST', '/api/messages', {
        token,
        body: { text: `message ${n}` },
        headers: n % 3 ? {} : { 'idempotency-key': `key-${n}` }
      })
      t.match({ status, body }, { status: 201, body: { userId, nickname, text: `message ${n}` } })
      return body
    })
  )
  const { rows } = await client.query(
    'select m.id, user_id as "userId", nickname, text from chat_message m join chat_user u on u.id = user_id order by m.id'
  )
  t.strictSame(
    rows,
    answers.map(({ createdAt, ...message }) => message).sort((a, b) => a.id - b.id)
  )
  const times = answers.toSorted((a, b) => a.id - b.id).map(({ createdAt }) => createdAt)
  t.strictSame(times, times.toSorted(), 'the times ascend with the ids')

  await client.query('truncate chat_message')
  await Promise.all(
    range(300).map((n) => app.room.writer.post({ userId: users[0]!.userId, text: `message ${n}` }))
  )
  const {
    rows: [{ commits }]
  } = await client.query('select count(distinct xmin::text)::int as commits from chat_message')
  t.equal(commits, 2, 'as many as a batch holds, and the rest')
})

t.test('if a trigger changes a text, answers, pages and streams have the stored one', async (t) => {
  const { call, register, url, database } = await startService(t)
  const { token } = await register()
  const client = await connect(t, database)
  await client.query(`create function shout () returns trigger language plpgsql as $$
      begin new.text := upper(new.text); return new; end $$;
    create trigger shout before insert on chat_message for each row execute function shout()`)
  const stream = await openStream(t, url)
  const answers = await Promise.all(
    range(20).map((n) => call('POST', '/api/messages', { token, body: { text: `message ${n}` } }))
  )
  const posted = answers.map(({ body }) => body)
  t.strictSame(
    posted.map(({ text }) => text),
    range(20).map((n) => `MESSAGE ${n}`)
  )
  const inOrder = posted.toSorted((a, b) => a.id - b.id)
  t.strictSame((await call('GET', '/api/messages')).body, inOrder)
  const events = await stream.events(20)
  t.strictSame(
    events.map(({ data }) => data.message),
    inOrder
  )
})

t.test('one invalid message does not fail others in its batch', async (t) => {
  const { call, register, database } = await startService(t)
  const { token } = await register()
  const gone = await register()
  const client = await connect(t, database)
  await client.query("alter table chat_message add constraint no_spam check (text <> 'spam')")
  await client.query('delete from chat_user where id = $1', [gone.userId])
  const statuses = await Promise.all(
    range(60).map(async (n) => {
      const text = n % 10 === 3 ? 'spam' : `message ${n}`
      return (
        await call('POST', '/api/messages', { token: n % 10 === 7 ? gone.token : token, body: { text } })
      ).status
    })
  )
  t.strictSame(
    statuses,
    range(60).map((n) => (n % 10 === 3 ? 500 : n % 10 === 7 ? 401 : 201))
  )
  t.equal((await client.query('select from chat_message')).rowCount, 48)
})

t.test('a message that a trigger discards is not answered with 201, nor are others mixed up', async (t) => {
  const { call, register, database, logs } = await startService(t)
  const users = await Promise.all(range(4).map(() => register()))
  const client = await connect(t, database)
  await client.query(`create function no_spam () returns trigger language plpgsql as $$ begin
      return case when new.text <> 'spam' then new end; end $$;
    create trigger no_spam before insert on chat_message for each row execute function no_spam()`)
  const answers = await Promise.all(
    range(60).map(async (n) => {
      const { token, userId } = users[n % users.length]!
      const text = n % 10 === 3 ? 'spam' : `message ${n}`
      const headers = { 'idempotency-key': `${n}` }
      const { status, body } = await call('POST', '/api/messages', { token, body: { text }, headers })
      return { status, userId, text, body }
    })
  )
  for (const { status, userId, text, body } of answers) {
    if (text === 'spam') t.equal(status, 500)
    else t.match({ status, body }, { status: 201, body: { userId, text } })
  }
  const stored = answers.flatMap(({ status, body }) => (status === 201 ? [body] : []))
  t.strictSame(
    (await call('GET', '/api/messages?limit=200')).body,
    stored.toSorted((a, b) => a.id - b.id)
  )
  t.match(
    logs.find(({ level }) => level === 50),
    { error: { message: /^a trigger discarded the message/ } },
    'the log says why'
  )
})

t.test('a message whose id would not be exact is neither stored nor answered with 201', async (t) => {
  const { call, register, database } = await startService(t)
  const { token } = await register()
  const client = await connect(t, database)
  await client.query(`select setval(pg_get_serial_sequence('chat_message', 'id'), ${2 ** 53 - 2})`)
  const post = (text: string) => call('POST', '/api/messages', { token, body: { text } })
  t.match(await post('the last'), { status: 201, body: { id: Number.MAX_SAFE_INTEGER } })
  t.equal((await post('one too many')).status, 500)
  t.equal((await client.query('select from chat_message')).rowCount, 1)
})

t.test('a message that a database policy refuses does not fail others in its batch', async (t) => {
  const { call, register, database } = await startService(t)
  const { token } = await register()
  const client = await connect(t, database)
  await client.query(`
    create function refuse_spam () returns trigger language plpgsql as $$ begin
      if new.text = 'spam' then raise insufficient_privilege; end if;
      return new;
    end $$;
    create trigger refuse_spam before insert on chat_message for each row execute function refuse_spam()`)
  const answers = await Promise.all(
    range(60).map((n) =>
      call('POST', '/api/messages', { token, body: { text: n % 10 === 3 ? 'spam' : `message ${n}` } })
    )
  )
  t.strictSame(
    answers.map(({ status, body }) => [status, body.code]),
    range(60).map((n) => (n % 10 === 3 ? [503, 'database_unavailable'] : [201, undefined]))
  )
})

t.test('the same user, key and text always give the same message', async (t) => {
  const { call, register, database } = await startService(t)
  const other = await startService(t, { POSTGRES_DB: database })
  const { token } = await register()
  const post = (text: string, key: string, who = token, at = call) =>
    at('POST', '/api/messages', { token: who, body: { text }, headers: { 'idempotency-key': key } })

  const first = await post('hello', 'key-1')
  t.equal(first.headers.get('idempotency-replayed'), null)
  for (const at of [call, other.call]) {
    const again = await post(' hello ', 'key-1', token, at)
    t.match(again, { status: 201, body: first.body })
    t.equal(again.headers.get('idempotency-replayed'), 'true')
  }
  t.match(await post('bye', 'key-1'), {
    status: 422,
    body: {
      error: 'Idempotency-Key was already used for a different message',
      code: 'idempotency_key_reused'
    }
  })
  const { token: another } = await register()
  t.not((await post('hello', 'key-1', another)).body.id, first.body.id, 'keys are of one user')
  t.not((await post('hello', 'KEY-1')).body.id, first.body.id, 'and differ by case')

  const all = await Promise.all(
    range(40).map((n) =>
      post(n % 2 ? 'same' : `own ${n}`, n % 2 ? 'shared' : `own-${n}`, token, n % 4 < 2 ? call : other.call)
    )
  )
  t.strictSame(
    all.map(({ status }) => status),
    range(40).map(() => 201)
  )
  const shared = all.filter((_, n) => n % 2)
  t.equal(new Set(shared.map(({ body }) => body.id)).size, 1, 'also when they come at once, to two replicas')
  t.equal(
    shared.filter(({ headers }) => headers.get('idempotency-replayed') === null).length,
    1,
    'all but one are replays'
  )

  await call('PATCH', `/api/messages/${first.body.id}`, { token, body: { text: 'edited' } })
  t.match(
    await post('hello', 'key-1'),
    { status: 201, body: { id: first.body.id, text: 'edited' } },
    'the message as it is now'
  )
  await call('DELETE', `/api/messages/${first.body.id}`, { token })
  const anew = await post('hello', 'key-1')
  t.equal(anew.status, 201)
  t.not(anew.body.id, first.body.id, 'for as long as it lives')
  const client = await connect(t, database)
  t.equal(
    (
      await client.query(
        'select from chat_message_key k where not exists (select from chat_message m where m.id = message_id)'
      )
    ).rowCount,
    0
  )

  for (const key of ['', 'x'.repeat(65), 'two words', '\u00e9', 'a\tb']) {
    t.match(
      await post('hello', key),
      { status: 400, body: { error: 'Idempotency-Key must be 1 to 64 visible ASCII characters' } },
      JSON.stringify(key)
    )
  }
  t.equal((await post('hello', '~'.repeat(64))).status, 201)
})

t.test('a batch whose result was lost is never written twice', async (t) => {
  const proxy = await startProxy(t, config.POSTGRES_HOST!, config.POSTGRES_PORT)
  const { call, register, database } = await startService(t, {
    POSTGRES_HOST: '127.0.0.1',
    POSTGRES_PORT: proxy.port
  })
  const { token } = await register()
  const client = await connect(t, database)
  const post = (text: string, headers = {}) =>
    call('POST', '/api/messages', { token, body: { text }, headers })
  const waiting =
    "select from pg_stat_activity where datname = current_database() and wait_event = 'advisory'"

  await client.query('begin; select pg_advisory_xact_lock(7243002)')
  const lost = [post('no key'), post('key', { 'idempotency-key': 'k' })]
  await waitUntil('the posts wait', async () => (await client.query(waiting)).rowCount !== 0)
  proxy.blackhole() // The insert is with the server; its answer will not come back.
  await client.query('commit')
  for (const { status, body } of await Promise.all(lost)) {
    t.match({ status, body }, { status: 503, body: { code: 'database_unavailable' } })
  }
  const again = await post('key', { 'idempotency-key': 'k' })
  t.equal(again.status, 201)
  const { rows } = await client.query(
    'select text, count(*)::int from chat_message group by text order by text'
  )
  t.ok(
    rows.every(({ count }) => count === 1),
    JSON.stringify(rows)
  )
  t.ok(rows.some(({ text }) => text === 'key'))
})

t.test('a batch that waits too long for the lock is 503, and is not stored later', async (t) => {
  const { call, register, database } = await startService(t)
  const { token } = await register()
  const client = await connect(t, database)
  await client.query('begin; select pg_advisory_xact_lock(7243002)')
  const { done: answers, ms } = await measure(() =>
    Promise.all(
      range(20).map((n) => call('POST', '/api/messages', { token, body: { text: `message ${n}` } }))
    )
  )
  t.ok(ms < 3000, `within 3 s: ${Math.round(ms)} ms`)
  for (const { status, headers } of answers) {
    t.match({ status, retry: headers.get('retry-after') }, { status: 503, retry: /^\d+$/ })
  }
  await client.query('commit')
  t.equal((await call('POST', '/api/messages', { token, body: { text: 'free' } })).status, 201)
  t.equal((await client.query('select from chat_message')).rowCount, 1)
})

t.test('a full queue answers 503 immediately', async (t) => {
  const { app, register, database } = await startService(t)
  const { userId } = await register()
  const client = await connect(t, database)
  await client.query('begin; select pg_advisory_xact_lock(7243002)')
  const posts = range(2500).map(async (n) => app.room.writer.post({ userId, text: `message ${n}` }))
  const settled = Promise.allSettled(posts)
  const refused = await Promise.race(posts.slice(-1)).catch((error) => error)
  t.match(refused, { statusCode: 503, code: 'busy', message: 'service is busy, try again soon' })
  await client.query('commit')
  const outcomes = await settled
  const stored = outcomes.filter(({ status }) => status === 'fulfilled').length
  t.ok(stored >= 2000 && stored < 2500, `${stored} stored`)
  t.equal((await client.query('select from chat_message')).rowCount, stored)
})

t.test('replies fill the queue while the messages that they reply to are looked up', async (t) => {
  const { app, register, post } = await startService(t)
  const { userId, token } = await register()
  const { id: replyTo } = await post(token, 'first')
  const posts = range(2100).map(async (n) => app.room.writer.post({ userId, text: `reply ${n}`, replyTo }))
  const settled = Promise.allSettled(posts)
  const refused = await Promise.race(posts.slice(-1)).catch((error) => error)
  t.match(refused, { statusCode: 503, code: 'busy' })
  await settled
})

t.test("a deadlock with another program's transaction is retried", async (t) => {
  const { call, register, database } = await startService(t)
  const { token, userId } = await register()
  const client = await connect(t, database)
  const blocker = await connect(t, database)
  await client.query('begin; select from chat_user for update')
  const posted = call('POST', '/api/messages', { token, body: { text: 'hello' } })
  const waiting =
    "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
  await waitUntil('the post waits', async () => (await blocker.query(waiting)).rowCount !== 0)
  // It waits for the user's row and holds the lock of the room, for which this one waits now.
  await client
    .query("insert into chat_message (user_id, text, created_at) values ($1, 'other', now())", [userId])
    .catch(() => client.query('rollback'))
  await client.query('commit')
  t.equal((await posted).status, 201)
})

t.test('one post that PostgreSQL rejects does not fail the others in its batch', async (t) => {
  const { app, register, database } = await startService(t)
  const { userId } = await register()
  const { writer } = app.room
  const held = writer.post({ userId, text: 'the batch before' })
  const posts = range(20).map((n) =>
    writer.post({
      userId,
      text: n === 7 ? 'a\0b' : `message ${n}`,
      key: n % 2 ? `key-${n}` : undefined
    })
  )
  const outcomes = await Promise.allSettled([held, ...posts])
  t.strictSame(
    outcomes.flatMap(({ status }, n) => (status === 'rejected' ? [n - 1] : [])),
    [7]
  )
  t.equal((await (await connect(t, database)).query('select from chat_message')).rowCount, 20)
})

t.test('a committed post gets 201 even if it cannot be read back', async (t) => {
  const role = `test_unread_${process.pid}`
  t.teardown(() => admin(`drop role if exists ${role}`))
  const { database } = await startService(t)
  const client = await connect(t, database)
  await client.query(
    `create role ${role} login password 'x'; grant select, insert, update, delete on all tables in schema public to ${role}`
  )
  const { call, register } = await startService(t, {
    POSTGRES_DB: database,
    POSTGRES_USER: role,
    POSTGRES_PASSWORD: 'x',
    MIGRATE: 'off'
  })
  const { token } = await register()
  const post = (text: string, key?: string) =>
    call('POST', '/api/messages', {
      token,
      body: { text },
      headers: { ...(key && { 'idempotency-key': key }) }
    })
  await client.query(`revoke select on chat_event from ${role}`)
  const answers = [
    await post('alone'),
    await post('keyed', 'key'),
    await post('keyed', 'key'),
    ...(await Promise.all(range(10).map((n) => post(`many ${n}`))))
  ]
  t.strictSame(
    answers.map(({ status }) => status),
    answers.map(() => 201)
  )
  t.equal(new Set(answers.map(({ body }) => body.id)).size, answers.length - 1)
  t.equal((await client.query('select from chat_message')).rowCount, answers.length - 1, 'each once')
  await client.query(`drop owned by ${role}`)
})

t.test('a post repeated while its message is deleted is answered with it or stored again', async (t) => {
  const { call, register, database } = await startService(t)
  const { token } = await register()
  const client = await connect(t, database)
  const post = () =>
    call('POST', '/api/messages', { token, body: { text: 'again' }, headers: { 'idempotency-key': 'key' } })
  const postTwice = async () => [await post(), await post()] as const
  // The delay varies, so that messages are deleted before, between and after the posts.
  const remove = async (ms: number) => {
    await sleep(ms)
    await client.query('delete from chat_message')
  }
  const answered = new Set<number>()
  const ended = performance.now() + 2000
  for (let round = 0; performance.now() < ended; round++) {
    const [first, [second, third]] = await Promise.all([post(), postTwice(), remove((7 * round) % 50)])
    const answers = [first, second, third]
    t.strictSame(
      answers.map(({ status, body }) => [status, body.text]),
      answers.map(() => [201, 'again'])
    )
    const ids = answers.map(({ body }) => body.id)
    t.ok(new Set(ids).size <= 2, `at most one before the deletion and one after it: ${ids}`)
    const { rows } = await client.query('select id from chat_message')
    t.ok(
      rows.length === 0 || (rows.length === 1 && rows[0].id === Math.max(...ids)),
      'at most the newest is left'
    )
    for (const id of ids) answered.add(id)
  }
  const { rows } = await client.query(
    "select message_id as id from chat_event where kind = 'message_created' order by seq"
  )
  t.strictSame(
    rows.map(({ id }) => id),
    [...answered].sort((a, b) => a - b),
    'the answers name exactly the messages that were stored'
  )
})

t.test('a key whose message was deleted or has another id can be used again', async (t) => {
  const { call, register, database } = await startService(t)
  const { token } = await register()
  const client = await connect(t, database)
  const post = async () => {
    const { status, body } = await call('POST', '/api/messages', {
      token,
      body: { text: 'again' },
      headers: { 'idempotency-key': 'key' }
    })
    t.equal(status, 201)
    return body.id
  }
  const id = await post()
  await client.query('update chat_message set id = id + 1000')
  t.equal(await post(), id + 1000, 'the message under its new id')
  await client.query('update chat_message_key set message_id = -1')
  t.not(await post(), id + 1000)
  t.equal((await client.query('select from chat_message')).rowCount, 2)
})
