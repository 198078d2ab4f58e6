import type pg from 'pg'
import t, { type Test } from 'tap'
import { startService } from '../helpers/app.ts'
import { connect } from '../helpers/database.ts'
import { overtaker } from '../helpers/overtake.ts'

const range = (count: number) => Array.from({ length: count }, (_, i) => i)
const HOUR_MS = 60 * 60 * 1000
const inAnHour = () => new Date(Date.now() + HOUR_MS)

const restrict = (client: pg.Client, userId: number, kind: 'mute' | 'ban', until?: Date) =>
  client.query(
    `insert into chat_restriction (user_id, kind, until) values ($1, $2, $3)
    on conflict (user_id) do update set kind = excluded.kind, until = excluded.until`,
    [userId, kind, until]
  )

async function startRoom(t: Test) {
  const service = await startService(t)
  const client = await connect(t, service.database)
  const say = (token: string, text: string, key?: string) =>
    service.call('POST', '/api/messages', {
      token,
      body: { text },
      headers: { ...(key !== undefined && { 'idempotency-key': key }) }
    })
  return { ...service, client, say }
}

t.test('a muted user can neither post nor edit, but can delete, until the mute ends', async (t) => {
  const { call, register, client, say, post } = await startRoom(t)
  const { token, userId } = await register()
  const { id } = await post(token, 'before')
  const until = inAnHour()
  await restrict(client, userId, 'mute', until)
  const error = `you are muted until ${until.toISOString()}`
  t.match(await say(token, 'hello'), { status: 403, body: { code: 'muted', error } })
  const edit = { token, body: { text: 'changed' } }
  t.match(await call('PATCH', `/api/messages/${id}`, edit), { status: 403, body: { code: 'muted', error } })
  t.match((await call('GET', '/api/messages')).body, [{ id, text: 'before' }])

  await restrict(client, userId, 'mute')
  t.match(await say(token, 'hello'), { status: 403, body: { error: 'you are muted' } })
  t.equal((await call('DELETE', `/api/messages/${id}`, { token })).status, 200)

  await restrict(client, userId, 'mute', new Date(Date.now() - 1))
  t.equal((await say(token, 'hello')).status, 201, 'a mute ends by itself')
})

t.test('in a read-only room only moderators and admins post and edit', async (t) => {
  const { call, register, client, say, post } = await startRoom(t)
  const [member, moderator, admin] = await Promise.all(range(3).map(register))
  const ids = await Promise.all(
    [member!, moderator!, admin!].map(async ({ token }) => (await post(token, 'x')).id)
  )
  await client.query("insert into chat_user_role (user_id, role) values ($1, 'moderator'), ($2, 'admin')", [
    moderator!.userId,
    admin!.userId
  ])
  await client.query('update chat_room set read_only = true')
  for (const [n, [user, status]] of [
    [member!, 403] as const,
    [moderator!, 0] as const,
    [admin!, 0] as const
  ].entries()) {
    const body = { text: 'changed' }
    const edited = await call('PATCH', `/api/messages/${ids[n]}`, { token: user.token, body })
    const posted = await say(user.token, 'hello')
    t.strictSame([posted.status, edited.status], status ? [403, 403] : [201, 200])
    if (status) t.match([posted.body, edited.body], [{ code: 'read_only' }, { code: 'read_only' }])
  }
  await client.query('update chat_room set read_only = false')
  t.equal((await say(member!.token, 'hello')).status, 201)
})

t.test('slow mode: a member posts once in the interval and learns how long to wait', async (t) => {
  const { call, register, client, say, post } = await startRoom(t)
  const [member, other, moderator] = await Promise.all(range(3).map(register))
  await client.query("insert into chat_user_role (user_id, role) values ($1, 'moderator')", [
    moderator!.userId
  ])
  await client.query('update chat_room set slow_mode_seconds = 600')
  const { id } = await post(member!.token, 'first')
  const refused = await say(member!.token, 'second')
  t.match(refused, { status: 429, body: { code: 'slow_mode' } })
  const wait = Number(refused.headers.get('retry-after'))
  t.ok(wait > 500 && wait <= 600, `${wait} s`)
  t.equal((await say(other!.token, 'first')).status, 201, 'each member has an interval')
  const edit = { token: member!.token, body: { text: 'edited' } }
  t.equal((await call('PATCH', `/api/messages/${id}`, edit)).status, 200, 'edits are not posts')
  t.equal((await call('DELETE', `/api/messages/${id}`, { token: member!.token })).status, 200)
  t.equal((await say(member!.token, 'third')).status, 429, 'deleting the message does not help')
  for (const n of range(5)) t.equal((await say(moderator!.token, `${n}`)).status, 201)

  await client.query("update chat_slow_mode set posted_at = posted_at - interval '600 seconds'")
  const statuses = await Promise.all(range(40).map(async (n) => (await say(member!.token, `${n}`)).status))
  t.equal(statuses.filter((status) => status === 201).length, 1, 'of many at once, one')
  t.equal(statuses.filter((status) => status === 429).length, 39)
  await client.query('update chat_room set slow_mode_seconds = 0')
  t.equal((await say(member!.token, 'free')).status, 201)
})

t.test('a refused post does not fail its batch, and a failed one is not counted', async (t) => {
  const { app, register, client } = await startRoom(t)
  const users = await Promise.all(range(3).map(register))
  await restrict(client, users[1]!.userId, 'mute')
  await restrict(client, users[2]!.userId, 'ban')
  const { writer } = app.room
  const held = writer.post({ userId: users[0]!.userId, text: 'the batch before' })
  const posts = range(60).map((n) =>
    writer
      .post({ userId: users[n % 3]!.userId, text: `message ${n}`, key: n % 2 ? `key-${n}` : undefined })
      .then(
        ({ message }) => message.text,
        ({ code }) => code
      )
  )
  await held
  t.strictSame(
    await Promise.all(posts),
    range(60).map((n) => [`message ${n}`, 'muted', 'session_not_found'][n % 3])
  )
  t.equal((await client.query('select from chat_message')).rowCount, 21)
  t.equal((await client.query('select from chat_message_key')).rowCount, 10)
})

t.test(
  'a banned user does not get an earlier message out of a batch with a key of somebody else',
  async (t) => {
    const { app, register, client } = await startRoom(t)
    const users = await Promise.all(range(2).map(register))
    const { writer } = app.room
    const keyed = (n: number) => writer.post({ userId: users[n]!.userId, text: `message ${n}`, key: 'key' })
    await Promise.all([keyed(0), keyed(1)])
    await restrict(client, users[1]!.userId, 'ban')
    const held = writer.post({ userId: users[0]!.userId, text: 'the batch before' })
    const [replayed, refused] = await Promise.allSettled([keyed(0), keyed(1)])
    await held
    t.match(replayed, { status: 'fulfilled', value: { isReplay: true } })
    t.match(refused, { status: 'rejected', reason: { code: 'session_not_found' } })
  }
)

t.test(
  'a post that is sent again with its key is answered with its message, whatever came since',
  async (t) => {
    const { register, client, say } = await startRoom(t)
    const { token, userId } = await register()
    const first = await say(token, 'hello', 'key')
    await client.query('update chat_room set slow_mode_seconds = 600, read_only = true')
    await restrict(client, userId, 'mute')
    const again = await say(token, 'hello', 'key')
    t.match(again, { status: 201, body: first.body })
    t.equal(again.headers.get('idempotency-replayed'), 'true')
    t.match(await say(token, 'bye', 'key'), { status: 422, body: { code: 'idempotency_key_reused' } })
    t.match(await say(token, 'hello', 'other-key'), { status: 403, body: { code: 'muted' } })
  }
)

t.test('a banned user cannot log in, and the error says until when', async (t) => {
  const { call, register, client } = await startRoom(t)
  const { nickname, userId } = await register()
  const login = (password = 'correct horse') => call('POST', '/api/login', { body: { nickname, password } })
  const until = inAnHour()
  await restrict(client, userId, 'ban', until)
  const error = `you are banned until ${until.toISOString()}`
  t.match(await login(), { status: 403, body: { code: 'banned', error } })
  t.match(await login('wrong'), { status: 401 }, 'only who knows the password learns of it')
  await restrict(client, userId, 'ban', new Date(Date.now() - 1))
  t.equal((await login()).status, 200, 'a ban ends by itself')
})

t.test('a restriction that is set while posts wait for the lock applies to them', async (t) => {
  const { register, say, database } = await startRoom(t)
  const { token, userId } = await register()
  const overtake = await overtaker(t, database)
  const mute = "insert into chat_restriction (user_id, kind) values ($1, 'mute')"
  const posts = await overtake(mute, [userId], () =>
    Promise.all(range(20).map((n) => say(token, `message ${n}`)))
  )
  for (const { status } of posts) t.equal(status, 403)
})

t.test('who is banned or loses a role while a deletion waits for the lock deletes nothing', async (t) => {
  const { call, register, client, post, database } = await startRoom(t)
  const [member, moderator] = [await register(), await register()]
  const role = "insert into chat_user_role (user_id, role) values ($1, 'moderator')"
  await client.query(role, [moderator.userId])
  const { id } = await post(member.token, 'hello')
  const overtake = await overtaker(t, database)
  const remove = ({ token }: { token: string }) => call('DELETE', `/api/messages/${id}`, { token })

  const demoted = await overtake('delete from chat_user_role where user_id = $1', [moderator.userId], () =>
    remove(moderator)
  )
  t.match(demoted, { status: 404, body: { code: 'message_not_found' } })
  const ban = "insert into chat_restriction (user_id, kind) values ($1, 'ban')"
  t.match(await overtake(ban, [member.userId], () => remove(member)), {
    status: 401,
    body: { code: 'session_not_found' }
  })
  t.match((await call('GET', '/api/messages')).body, [{ id, text: 'hello' }])
})

t.test('roles and restrictions are deleted with their user', async (t) => {
  const { register, client } = await startRoom(t)
  const tables = ['chat_user_role', 'chat_restriction', 'chat_slow_mode']
  const count = async () => {
    const counts = tables.map((table) => `(select count(*)::int from ${table})`)
    return Object.values(
      (await client.query(`select ${counts.map((sql, n) => `${sql} as "${n}"`).join()}`)).rows[0]
    )
  }
  for (const remove of ['delete from chat_user', 'truncate chat_user, chat_message']) {
    const { userId } = await register()
    await restrict(client, userId, 'mute')
    await client.query("insert into chat_user_role (user_id, role) values ($1, 'admin')", [userId])
    await client.query('insert into chat_slow_mode (user_id, posted_at) values ($1, now())', [userId])
    t.strictSame(await count(), [1, 1, 1])
    await client.query(remove)
    t.strictSame(await count(), [0, 0, 0], remove)
  }
})
