import { randomInt } from 'node:crypto'
import t from 'tap'
import { startService } from '../helpers/app.ts'
import { openRedis } from '../helpers/database.ts'
import { startModerated } from '../helpers/people.ts'
import { waitUntil } from '../helpers/raw.ts'
import { openStream } from '../helpers/stream.ts'

const password = 'correct horse'

t.test('users see their account, with a session and with an API token', async (t) => {
  const { call, client, registerAs } = await startModerated(t)
  const [admin, member] = [await registerAs('admin'), await registerAs('member')]
  const { token, userId, nickname } = member
  const me = async (token: string) => (await call('GET', '/api/me', { token })).body
  const { rows } = await client.query('select created_at from chat_user where id = $1', [userId])
  const account = {
    userId,
    nickname,
    role: 'member',
    createdAt: rows[0].created_at.toISOString(),
    restriction: null
  }
  t.strictSame(await me(token), account)
  const { body } = await call('POST', '/api/tokens', { token, body: { name: 'bot' } })
  t.strictSame(await me(body.token), account, 'a bot learns who it is')
  t.match(await me(admin.token), { role: 'admin', userId: admin.userId })

  const restrict = (restriction: object) =>
    call('PUT', `/api/users/${userId}/restriction`, { token: admin.token, body: restriction })
  const until = new Date(Date.now() + 60 * 60 * 1000).toISOString()
  await restrict({ kind: 'mute', until, reason: 'spam' })
  t.strictSame((await me(token)).restriction, { kind: 'mute', until, reason: 'spam' })
  await restrict({ kind: 'mute' })
  t.strictSame((await me(token)).restriction, { kind: 'mute', until: null, reason: null })
  await client.query("update chat_restriction set until = now() - interval '1 second'")
  t.equal((await me(token)).restriction, null, 'one that has ended is none')

  await client.query('delete from chat_user where id = $1', [userId])
  t.match(await call('GET', '/api/me', { token }), { status: 401, body: { code: 'user_not_found' } })
})

for (const withDeletedAt of [false, true]) {
  t.test(
    `a deleted account leaves nothing behind${withDeletedAt ? ', where there is a column deleted_at' : ''}`,
    async (t) => {
      const { call, client, registerAs, post, url, database } = await startModerated(t)
      const other = await startService(t, { POSTGRES_DB: database })
      const redis = openRedis(t)
      if (withDeletedAt) await client.query('alter table chat_message add column deleted_at timestamptz')
      const [admin, friend] = [await registerAs('admin'), await registerAs('member')]
      const leaving = await registerAs('moderator')
      const { userId, nickname, token } = leaving
      const login = { body: { nickname, password } }
      const second = (await other.call('POST', '/api/login', login)).body.token
      await redis.set(`session:${'f'.repeat(64)}`, userId, 'EX', 60) // by the Go service
      const { body: bot } = await call('POST', '/api/tokens', { token, body: { name: 'bot' } })

      const insert = "insert into chat_message (user_id, text) select $1, 'x' from generate_series(1, 2500)"
      await client.query(insert, [userId])
      const keyed = { token, body: { text: 'question' }, headers: { 'idempotency-key': 'key' } }
      const { body: question } = await call('POST', '/api/messages', keyed)
      const answerText = { text: 'answer', replyTo: question.id }
      const { body: answer } = await call('POST', '/api/messages', { token: friend.token, body: answerText })
      if (withDeletedAt) {
        await client.query(
          "insert into chat_message (user_id, text, deleted_at) values ($1, 'hidden', now())",
          [userId]
        )
      }
      const report = { reason: 'spam' }
      await call('POST', `/api/messages/${answer.id}/report`, { token, body: report })
      await call('POST', `/api/messages/${question.id}/report`, { token: friend.token, body: report })
      await call('PUT', `/api/users/${userId}/restriction`, { token: admin.token, body: { kind: 'mute' } })

      const { rows: log } = await client.query('select max(seq) as last from chat_event')
      await waitUntil('the other replica has read the log', () => other.app.room.timeline.seq === log[0].last)
      const streams = [await openStream(t, url), await openStream(t, other.url)]
      const deleted = await call('DELETE', '/api/me', { token, body: { password } })
      t.equal(deleted.status, 204)
      const events = await Promise.all(streams.map((stream) => stream.events(2501)))
      for (const seen of events) {
        t.equal(new Set(seen.map(({ data }) => data.id)).size, 2501)
        t.ok(seen.every(({ data }) => data.type === 'message_deleted'))
      }
      for (const at of [call, other.call]) {
        const { body } = await at('GET', '/api/messages')
        t.match(body, [{ id: answer.id, replyTo: { id: question.id, deleted: true } }])
        t.equal(body.length, 1)
        for (const gone of [token, second, 'f'.repeat(64), bot.token]) {
          const refused = await at('POST', '/api/messages', { token: gone, body: { text: 'hello' } })
          t.equal(refused.status, 401)
        }
      }
      t.equal((await other.call('POST', '/api/login', login)).status, 401)
      for (const gone of [token, second, 'f'.repeat(64)]) t.equal(await redis.get(`session:${gone}`), null)
      t.strictSame(await redis.keys(`chat-backend:*:${userId}`), [])
      for (const table of [
        'chat_message',
        'chat_message_key',
        'chat_token',
        'chat_user_role',
        'chat_restriction',
        'chat_report'
      ]) {
        const { rows } = await client.query(`select from ${table} where user_id = $1`, [userId])
        t.equal(rows.length, 0, table)
      }
      t.equal((await client.query('select from chat_report')).rowCount, 0, 'nor a report of its messages')
      const again = await call('POST', '/api/register', { body: { nickname, password } })
      t.equal(again.status, 201, 'the nickname is free')
      await post(again.body.token, 'hello')
    }
  )
}

t.test('an account is deleted only with its password, and never that of the last admin', async (t) => {
  const { call, registerAs, post, database } = await startModerated(t)
  const limited = await startService(t, {
    POSTGRES_DB: database,
    RATE_LIMIT: 'on',
    TRUST_PROXY: '127.0.0.1, ::1'
  })
  // All tests share one Redis, and wrong passwords count by address, too.
  const headers = { 'x-forwarded-for': `10.${randomInt(256)}.${randomInt(256)}.${randomInt(256)}` }
  const remove = (token: string, body: object) => limited.call('DELETE', '/api/me', { token, body, headers })
  const admin = await registerAs('admin')
  const { id } = await post(admin.token, 'hello')
  t.match(await remove(admin.token, {}), { status: 400, body: { code: 'current_password_missing' } })
  t.match(await remove(admin.token, { password }), { status: 409, body: { code: 'last_admin' } })
  t.equal((await call('GET', `/api/messages/${id}`)).status, 200)

  const { token, nickname } = await registerAs('member')
  for (let guess = 0; guess < 10; guess++) {
    const refused = await remove(token, { password: 'wrong' })
    t.match(refused, { status: 401, body: { code: 'invalid_credentials' } })
  }
  t.match(await remove(token, { password }), { status: 429 }, 'guesses are limited')
  const login = await limited.call('POST', '/api/login', { body: { nickname, password }, headers })
  t.equal(login.status, 429, 'together with those at login')
})

t.test('of admins who resign simultaneously, one stays', async (t) => {
  const { call, client, registerAs, database } = await startModerated(t)
  const other = await startService(t, { POSTGRES_DB: database })
  const admins = await Promise.all([0, 1, 2, 3].map(() => registerAs('admin')))
  const answers = await Promise.all(
    admins.map(({ token }, n) =>
      (n % 2 ? other.call : call)('DELETE', '/api/me', { token, body: { password } })
    )
  )
  t.strictSame(answers.map(({ status }) => status).sort(), [204, 204, 204, 409])
  t.equal((await client.query("select from chat_user_role where role = 'admin'")).rowCount, 1)
})

t.test('a user who posts during the deletion of the account leaves nothing behind', async (t) => {
  const { call, client, registerAs, database } = await startModerated(t)
  const other = await startService(t, { POSTGRES_DB: database })
  const { userId, token } = await registerAs('member')
  await client.query(
    "insert into chat_message (user_id, text) select $1, 'x' from generate_series(1, 1500)",
    [userId]
  )
  const over = new AbortController()
  const posting = [call, other.call].map(async (at) => {
    while (!over.signal.aborted) {
      const { status } = await at('POST', '/api/messages', { token, body: { text: 'more' } })
      if (![201, 401].includes(status)) throw new Error(`${status}`)
    }
  })
  t.equal((await call('DELETE', '/api/me', { token, body: { password } })).status, 204)
  over.abort()
  await Promise.all(posting)
  t.equal((await client.query('select from chat_message')).rowCount, 0)
  t.equal((await client.query('select from chat_user where id = $1', [userId])).rowCount, 0)
})
