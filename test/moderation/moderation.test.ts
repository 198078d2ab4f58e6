import t from 'tap'
import { deleteMessagesOf } from '../../src/chat/messages.ts'
import { startService } from '../helpers/app.ts'
import { connect, openRedis } from '../helpers/database.ts'
import { overtaker } from '../helpers/overtake.ts'
import { startModerated } from '../helpers/people.ts'
import { waitUntil } from '../helpers/raw.ts'
import { openStream } from '../helpers/stream.ts'

const range = (count: number) => Array.from({ length: count }, (_, i) => i)
const inAnHour = () => new Date(Date.now() + 60 * 60 * 1000).toISOString()

t.test('a restriction is returned, listed, logged, replaced and lifted', async (t) => {
  const { call, registerAs } = await startModerated(t)
  const { token, userId: moderatorId, nickname: moderator } = await registerAs('moderator')
  const { userId, nickname } = await registerAs('member')
  const path = `/api/users/${userId}/restriction`
  const until = inAnHour()
  const muted = await call('PUT', path, { token, body: { kind: 'mute', until, reason: ' spam ' } })
  t.match(muted, {
    status: 200,
    body: { userId, nickname, kind: 'mute', until, reason: 'spam', moderator: { userId: moderatorId } }
  })
  const banned = await call('PUT', path, { token, body: { kind: 'ban', until: null, reason: '' } })
  t.strictSame(Object.keys(banned.body).sort(), [
    'createdAt',
    'id',
    'kind',
    'moderator',
    'nickname',
    'userId'
  ])
  t.ok(banned.body.id > muted.body.id)
  t.strictSame((await call('GET', '/api/restrictions', { token })).body, [banned.body])
  t.equal((await call('DELETE', path, { token })).status, 204)
  t.equal((await call('DELETE', path, { token })).status, 204, 'again')
  t.strictSame((await call('GET', '/api/restrictions', { token })).body, [])

  const { body: log } = await call('GET', '/api/moderation-log', { token })
  const by = { moderator: { userId: moderatorId, nickname: moderator }, user: { userId, nickname } }
  t.match(log, [
    { action: 'lift_restriction', ...by, details: { kind: 'ban' } },
    { action: 'ban', ...by },
    { action: 'mute', ...by, reason: 'spam', details: { until } }
  ])
  t.equal(log.length, 3)
  const { body: page } = await call('GET', `/api/moderation-log?limit=1&before_id=${log[0].id}`, { token })
  t.strictSame(page, [log[1]])
})

t.test('a ban immediately ends all sessions, in Redis and on every replica', async (t) => {
  const { call, registerAs, database } = await startModerated(t)
  const other = await startService(t, { POSTGRES_DB: database })
  const admin = await registerAs('admin')
  const { userId, nickname, token } = await registerAs('member')
  const login = { body: { nickname, password: 'correct horse' } }
  const tokens = [token, (await other.call('POST', '/api/login', login)).body.token]
  const path = `/api/users/${userId}/restriction`
  t.equal((await call('PUT', path, { token: admin.token, body: { kind: 'ban' } })).status, 200)
  const redis = openRedis(t)
  for (const token of tokens) {
    t.equal(await redis.get(`session:${token}`), null, 'the Go service finds none either')
    for (const at of [call, other.call]) {
      t.equal((await at('POST', '/api/messages', { token, body: { text: 'hello' } })).status, 401)
    }
  }
  t.match(await other.call('POST', '/api/login', login), { status: 403, body: { code: 'banned' } })
  await call('DELETE', path, { token: admin.token })
  t.equal((await other.call('POST', '/api/login', login)).status, 200)
})

t.test('each invalid action gets a clear error', async (t) => {
  const { call, registerAs } = await startModerated(t)
  const admin = await registerAs('admin')
  const { userId } = await registerAs('member')
  const nobody = userId + 1000
  const put = (path: string, body: object) => call('PUT', path, { token: admin.token, body })
  const past = new Date(Date.now() - 1000).toISOString()
  const refusals: [string, object, number, string][] = [
    [`/api/users/${userId}/restriction`, {}, 400, 'kind_missing'],
    [`/api/users/${userId}/restriction`, { kind: 'kick' }, 400, 'kind_invalid'],
    [`/api/users/${userId}/restriction`, { kind: 'mute', until: past }, 400, 'until_past'],
    ...[
      'tomorrow',
      '2026-02-30T00:00:00Z',
      '2999-13-01T00:00:00Z',
      '2999-01-01',
      '2999-01-01T00:00:00',
      '2999-01-01T24:00:00Z'
    ].map((until): [string, object, number, string] => [
      `/api/users/${userId}/restriction`,
      { kind: 'mute', until },
      400,
      'until_invalid'
    ]),
    [`/api/users/${userId}/restriction`, { kind: 'mute', until: 5 }, 400, 'until_invalid'],
    [`/api/users/${userId}/restriction`, { kind: 'mute', until: '' }, 400, 'until_invalid'],
    [`/api/users/${userId}/restriction`, { kind: 'mute', reason: 'x'.repeat(501) }, 400, 'reason_too_long'],
    [`/api/users/${userId}/restriction`, { kind: 'mute', reason: 'a\0' }, 400, 'reason_invalid'],
    [`/api/users/${nobody}/restriction`, { kind: 'mute' }, 404, 'user_unknown'],
    [`/api/users/99999999999999999999/restriction`, { kind: 'mute' }, 404, 'user_unknown'],
    [`/api/users/abc/restriction`, { kind: 'mute' }, 404, 'not_found'],
    [`/api/users/${admin.userId}/restriction`, { kind: 'mute' }, 409, 'own_account'],
    [`/api/users/${userId}/role`, { role: 'king' }, 400, 'role_invalid'],
    [`/api/users/${userId}/role`, {}, 400, 'role_missing'],
    [`/api/users/${nobody}/role`, { role: 'admin' }, 404, 'user_unknown'],
    [`/api/users/${admin.userId}/role`, { role: 'member' }, 409, 'last_admin']
  ]
  for (const [path, body, status, code] of refusals) {
    t.match(await put(path, body), { status, body: { code, error: /\w/ } }, `${path} ${JSON.stringify(body)}`)
  }
  const patch = (body: object) => call('PATCH', '/api/room', { token: admin.token, body })
  t.match(await patch({ topic: 'x'.repeat(201) }), { status: 400, body: { code: 'topic_too_long' } })
  t.match(await patch({ slowModeSeconds: -1 }), { status: 400, body: { code: 'slow_mode_seconds_invalid' } })
  t.match(await patch({ readOnly: 'yes' }), { status: 400, body: { code: 'read_only_invalid' } })
  for (const [field, code] of [
    ['topic', 'topic_invalid'],
    ['slowModeSeconds', 'slow_mode_seconds_invalid'],
    ['readOnly', 'read_only_invalid']
  ] as const) {
    t.match(await patch({ [field]: null }), { status: 400, body: { code } }, `${field} cannot be null`)
  }
  t.match(await patch({ topic: '' }), { status: 200, body: { topic: '' } })
  const remove = (path: string) => call('DELETE', path, { token: admin.token })
  t.match(await remove(`/api/users/${nobody}/messages`), { status: 404, body: { code: 'user_unknown' } })
  t.match(await remove(`/api/users/${admin.userId}/messages`), { status: 409, body: { code: 'own_account' } })
  t.match(await remove('/api/reports/1'), { status: 404, body: { code: 'report_unknown' } })
})

t.test('one admin is always left, even if all resign or remove each other simultaneously', async (t) => {
  const { call, client, registerAs } = await startModerated(t)
  const admins = await Promise.all(range(4).map(() => registerAs('admin')))
  const resigned = await Promise.all(
    admins.map(({ token, userId }) =>
      call('PUT', `/api/users/${userId}/role`, { token, body: { role: 'member' } })
    )
  )
  t.strictSame(resigned.map(({ status }) => status).sort(), [200, 200, 200, 409])

  const [one, other] = [await registerAs('admin'), await registerAs('admin')]
  await client.query('delete from chat_user_role where user_id <> all ($1)', [[one.userId, other.userId]])
  const banned = await Promise.all(
    [
      [one, other],
      [other, one]
    ].map(([by, target]) =>
      call('PUT', `/api/users/${target!.userId}/restriction`, { token: by!.token, body: { kind: 'ban' } })
    )
  )
  t.strictSame(banned.map(({ status }) => status).sort(), [200, 401])
})

t.test(
  'nothing is posted after the answer to a moderator, whatever was under way on two replicas',
  async (t) => {
    const { call, client, registerAs, database } = await startModerated(t)
    const other = await startService(t, { POSTGRES_DB: database })
    const moderator = await registerAs('moderator')
    const members = await Promise.all(range(4).map(() => registerAs('member')))
    const [muted, banned] = [members[0]!, members[1]!]
    const over = new AbortController()
    const posters = range(100).map(async (n) => {
      while (!over.signal.aborted) {
        const { token } = members[n % 4]!
        const at = n % 8 < 4 ? call : other.call
        const { status } = await at('POST', '/api/messages', { token, body: { text: `${n}` } })
        // 503: the others may hold the lock for longer than a request waits.
        if (![201, 401, 403, 429, 503].includes(status)) throw new Error(`${status}`)
      }
    })
    // The highest id that there is when a moderator has been answered; none of that user's is higher later.
    const newest = async (where = '') =>
      Number((await client.query(`select coalesce(max(id), 0) as id from chat_message ${where}`)).rows[0].id)
    await waitUntil('messages are posted', async () => (await newest()) > 100)
    const { token } = moderator
    // Then the moderator asks again.
    const act = async (method: string, path: string, body: object) => {
      let status = 503
      await waitUntil(
        'the moderator is answered',
        async () => {
          status = (await call(method, path, { token, body })).status
          return status !== 503
        },
        60_000
      )
      t.equal(status, 200)
    }
    const restrict = async (userId: number, kind: string) => {
      await act('PUT', `/api/users/${userId}/restriction`, { kind })
      return newest(`where user_id = ${userId}`)
    }
    const last = { muted: await restrict(muted.userId, 'mute'), banned: await restrict(banned.userId, 'ban') }
    const change = (body: object) => act('PATCH', '/api/room', body)
    await change({ readOnly: true })
    const closedAt = await newest()
    const requests = await client.query('select now()')
    await waitUntil('the posters have been refused for a while', async () => {
      const { rows } = await client.query('select now() - $1 > $2::interval as "isOver"', [
        requests.rows[0].now,
        '200 milliseconds'
      ])
      return rows[0].isOver
    })
    t.equal(await newest(), closedAt, 'read-only')
    await change({ readOnly: false, slowModeSeconds: 600 })
    for (const { userId } of members.slice(2)) {
      const hasPosted = async () => (await newest(`where user_id = ${userId}`)) > closedAt
      await waitUntil('each member has posted in slow mode', hasPosted, 60_000)
    }
    over.abort()
    await Promise.all(posters)
    t.equal(await newest(`where user_id = ${muted.userId}`), last.muted, 'muted')
    t.equal(await newest(`where user_id = ${banned.userId}`), last.banned, 'banned')
    const { rows } = await client.query(
      'select user_id, count(*)::int from chat_message where id > $1 group by user_id having count(*) > 1',
      [closedAt]
    )
    t.strictSame(rows, [], 'in slow mode each member posts once')
  }
)

t.test('changes of the room reach all streams of all replicas in order', async (t) => {
  const { call, registerAs, database, url, post } = await startModerated(t)
  const other = await startService(t, { POSTGRES_DB: database })
  const { token } = await registerAs('moderator')
  t.match((await call('GET', '/api/room')).body, { topic: '', slowModeSeconds: 0, readOnly: false })
  const streams = await Promise.all([openStream(t, url), openStream(t, other.url)])
  const since = (await call('GET', '/api/messages')).headers.get('x-event-cursor')
  for (const n of range(5)) {
    const at = n % 2 ? call : other.call
    const changed = await at('PATCH', '/api/room', { token, body: { topic: `topic ${n}` } })
    t.match(changed, { status: 200, body: { topic: `topic ${n}`, slowModeSeconds: 0 } })
    t.match((await call('GET', '/api/room')).body, { topic: `topic ${n}` }, 'at once, on any replica')
    await post(token, `message ${n}`)
  }
  t.equal((await call('PATCH', '/api/room', { token, body: { topic: 'topic 4' } })).status, 200)
  t.equal((await call('PATCH', '/api/room', { token, body: {} })).status, 200)
  await post(token, 'the end')
  const expected = [
    ...range(5).flatMap((n) => [
      { type: 'room_updated', room: { topic: `topic ${n}`, slowModeSeconds: 0, readOnly: false } },
      { type: 'message_created', message: { text: `message ${n}` } }
    ]),
    { type: 'message_created', message: { text: 'the end' } }
  ]
  streams.push(await openStream(t, other.url, `?since=${since}`))
  const third = await startService(t, { POSTGRES_DB: database })
  streams.push(await openStream(t, third.url, `?since=${since}`)) // It reads what was before its start from the log.
  for (const stream of streams) {
    const events = await stream.events(11)
    t.match(
      events.map(({ data }) => data),
      expected
    )
    t.equal(events.length, 11, 'what changes nothing is no event')
  }
})

t.test('online counts the streams of all replicas', async (t) => {
  const { call, url, database } = await startModerated(t, { REDIS_DB: 7 })
  const other = await startService(t, { POSTGRES_DB: database, REDIS_DB: 7 })
  const streams = await Promise.all([url, url, other.url].map((url) => openStream(t, url)))
  const both = async (count: number) => {
    const rooms = await Promise.all([call('GET', '/api/room'), other.call('GET', '/api/room')])
    return rooms.every(({ body }) => body.online === count)
  }
  await waitUntil('both know of three', () => both(3), 30_000)
  streams[0]!.close()
  await waitUntil('both know of two', () => both(2), 30_000)
})

t.test('each user can report a message once, and moderators can close the report', async (t) => {
  const { call, registerAs, post } = await startModerated(t)
  const [author, reporter, moderator] = [
    await registerAs('member'),
    await registerAs('member'),
    await registerAs('moderator')
  ]
  const [first, second] = [await post(author.token, 'rude'), await post(author.token, 'fine')]
  const report = (id: number, reason: unknown = 'it is rude') =>
    call('POST', `/api/messages/${id}/report`, { token: reporter.token, body: { reason } })
  for (const id of [first.id, first.id, second.id]) t.equal((await report(id)).status, 204)
  t.match(await report(first.id + 1000), { status: 404, body: { code: 'message_not_found' } })
  t.match(await report(first.id, ''), { status: 400, body: { code: 'reason_missing' } })
  t.match(await report(first.id, 'x'.repeat(501)), { status: 400, body: { code: 'reason_too_long' } })
  const list = async () => (await call('GET', '/api/reports', { token: moderator.token })).body
  const reports = await list()
  t.match(reports, [
    { message: { id: second.id } },
    { message: first, reason: 'it is rude', reporter: { userId: reporter.userId } }
  ])
  t.equal(reports.length, 2)
  const close = () => call('DELETE', `/api/reports/${reports[1].id}`, { token: moderator.token })
  t.equal((await close()).status, 204)
  t.match(await close(), { status: 404, body: { code: 'report_unknown' } })
  t.equal((await report(first.id)).status, 204)
  t.equal((await list()).length, 1, 'what was dealt with is not reported by the same user again')
  await call('DELETE', `/api/messages/${second.id}`, { token: moderator.token })
  t.strictSame(await list(), [], 'nor does anybody look for a message that is gone')
  const { body: log } = await call('GET', '/api/moderation-log', { token: moderator.token })
  t.match(log, [
    { action: 'delete_message', messageId: second.id, user: { userId: author.userId } },
    { action: 'close_report', messageId: first.id }
  ])
})

t.test('a report is never lost while the sequence of their ids was set back', async (t) => {
  const { call, client, registerAs, post } = await startModerated(t)
  const [author, reporter, moderator] = [
    await registerAs('member'),
    await registerAs('member'),
    await registerAs('moderator')
  ]
  const report = ({ id }: { id: number }) =>
    call('POST', `/api/messages/${id}/report`, { token: reporter.token, body: { reason: 'it is rude' } })
  t.equal((await report(await post(author.token, 'first'))).status, 204)
  const second = await post(author.token, 'second')
  await client.query("select setval(pg_get_serial_sequence('chat_report', 'id'), 1, false)")
  await waitUntil('the report is accepted', async () => (await report(second)).status === 204)
  t.match((await call('GET', '/api/reports', { token: moderator.token })).body, [
    { message: { text: 'second' } },
    { message: { text: 'first' } }
  ])
})

t.test('a moderator who loses the role or is banned meanwhile closes no report', async (t) => {
  const { call, client, registerAs, post, database } = await startModerated(t)
  const [author, reporter, admin] = [
    await registerAs('member'),
    await registerAs('member'),
    await registerAs('admin')
  ]
  const { id } = await post(author.token, 'rude')
  await call('POST', `/api/messages/${id}/report`, { token: reporter.token, body: { reason: 'rude' } })
  const list = async () => (await call('GET', '/api/reports', { token: admin.token })).body
  const [report] = await list()
  const other = await connect(t, database)
  const changes: [string, number][] = [
    ['delete from chat_user_role where user_id = $1', 403],
    ["insert into chat_restriction (user_id, kind) values ($1, 'ban')", 401]
  ]
  for (const [change, status] of changes) {
    const moderator = await registerAs('moderator')
    await other.query('begin; lock table chat_report')
    await other.query(change, [moderator.userId])
    const closing = call('DELETE', `/api/reports/${report.id}`, { token: moderator.token })
    const waiting = `select from pg_stat_activity
      where datname = current_database() and wait_event = 'relation' and query like '%close_report%'`
    await waitUntil('it waits', async () => (await client.query(waiting)).rowCount !== 0)
    await other.query('commit')
    t.equal((await closing).status, status)
    t.strictSame(await list(), [report])
  }
})

t.test('a restriction that ends before its moderator has the answer is answered as it was set', async (t) => {
  const { call, registerAs, database } = await startModerated(t)
  const { token } = await registerAs('moderator')
  const { userId } = await registerAs('member')
  const other = await connect(t, database)
  await other.query('begin; select pg_advisory_xact_lock(7243002)') // as somebody who changes many messages
  const until = new Date(Date.now() + 500).toISOString()
  const muting = call('PUT', `/api/users/${userId}/restriction`, { token, body: { kind: 'mute', until } })
  await waitUntil('it has ended', () => Date.now() > Date.parse(until))
  await other.query('commit')
  const muted = await muting
  t.match(muted, { status: 200, body: { userId, kind: 'mute', until } })
})

t.test('reports of huge messages come a few at a time, down to the oldest', async (t) => {
  const { call, client, registerAs } = await startModerated(t)
  const { token, userId } = await registerAs('moderator')
  // Texts of 4.5 and of 1.5 MiB.
  await client.query(
    `insert into chat_message (user_id, text)
    select $1, repeat('я', case when n < 3 then 2359296 else 786432 end) from generate_series(1, 6) n`,
    [userId]
  )
  await client.query(
    "insert into chat_report (message_id, user_id, reason) select id, $1, 'too long' from chat_message",
    [userId]
  )
  const pages: number[][] = []
  for (let before = ''; ;) {
    const { status, body } = await call('GET', `/api/reports?limit=5${before}`, { token })
    t.equal(status, 200)
    if (body.length === 0) break
    pages.push(body.map(({ message }: { message: { id: number } }) => message.id))
    before = `&before_id=${body.at(-1).id}`
  }
  t.strictSame(pages, [[6, 5], [4, 3], [2], [1]])
})

for (const withDeletedAt of [false, true]) {
  t.test(
    `all messages of a user are deleted${withDeletedAt ? ', by setting deleted_at where there is that column' : ''}`,
    async (t) => {
      const { app, call, client, database, registerAs, post, url } = await startModerated(t)
      if (withDeletedAt) await client.query('alter table chat_message add column deleted_at timestamptz')
      const [spammer, member, moderator] = [
        await registerAs('member'),
        await registerAs('member'),
        await registerAs('moderator')
      ]
      const insert =
        "insert into chat_message (user_id, text) select $1, 'spam' from generate_series(1, 1200)"
      await client.query(insert, [spammer.userId])
      await post(member.token, 'stays')
      const stream = await openStream(t, url)
      const path = `/api/users/${spammer.userId}/messages`
      const answer = await call('DELETE', path, { token: moderator.token })
      t.match(answer, { status: 200, body: { deleted: 1200 } })
      t.match((await call('GET', '/api/messages')).body, [{ text: 'stays' }])
      const events = await stream.events(1200)
      t.ok(events.every(({ data }) => data.type === 'message_deleted'))
      t.match(await call('DELETE', path, { token: moderator.token }), { status: 200, body: { deleted: 0 } })
      t.match((await call('GET', '/api/moderation-log', { token: moderator.token })).body, [
        { action: 'delete_messages', details: { deleted: 0 } },
        { action: 'delete_messages', details: { deleted: 1200 } }
      ])
      const { id } = await post(member.token, 'one')
      const deleted = await call('DELETE', `/api/messages/${id}`, { token: moderator.token })
      t.match(deleted, { status: 200, body: { id, status: 'deleted' } })

      const given = await post(member.token, 'given to the moderator')
      const overtake = await overtaker(t, database)
      const ids = await overtake(
        'update chat_message set user_id = $2 where id = $1',
        [given.id, moderator.userId],
        () => deleteMessagesOf(app.sql, member.userId, 500)
      )
      t.notOk(ids.includes(given.id), 'what is not theirs any more stays')
    }
  )
}
