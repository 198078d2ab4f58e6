import { createHash, randomBytes } from 'node:crypto'
import t, { type Test } from 'tap'
import { startService } from '../helpers/app.ts'
import { measure } from '../helpers/clock.ts'
import { config, connect, openRedis, ownUserIds } from '../helpers/database.ts'
import { startProxy } from '../helpers/proxy.ts'
import { waitUntil } from '../helpers/raw.ts'

const password = 'correct horse'
const newPassword = 'another horse'
const usesKey = (userId: number) => `chat-backend:session-uses:${userId}`

async function start(t: Test, overrides = {}) {
  const service = await startService(t, overrides)
  await ownUserIds(service.database)
  const { call } = service
  return {
    ...service,
    login: (nickname: string, password: string) =>
      call('POST', '/api/login', { body: { nickname, password } }),
    list: (token: string) => call('GET', '/api/sessions', { token }),
    change: (token: string, body: object) => call('PUT', '/api/password', { token, body }),
    works: async (token: string) =>
      (await call('POST', '/api/messages', { token, body: { text: 'still here' } })).status === 201
  }
}

/**
 * Holds back the change of any user until `go` is called. @returns also `reached`, which resolves once a
 * change waits
 */
async function holdChanges(t: Test, database: string) {
  const [holder, watcher] = [await connect(t, database), await connect(t, database)]
  await holder.query('begin')
  await holder.query('select from chat_user for update')
  return {
    reached: async () => {
      while (
        (
          await watcher.query(
            `select from pg_locks join pg_stat_activity using (pid)
              where not granted and query like 'update chat_user%' and datname = current_database()`
          )
        ).rows.length === 0
      );
    },
    go: () => holder.query('commit')
  }
}

t.test('a user sees all sessions, and which one is current', async (t) => {
  const { register, login, list } = await start(t)
  const before = Date.now()
  const { token, nickname } = await register()
  const {
    body: { token: second }
  } = await login(nickname, password)
  const { token: stranger } = await register()

  const { status, body } = await list(token)
  t.equal(status, 200)
  t.equal(body.length, 2)
  for (const session of body) {
    t.strictSame(Object.keys(session).sort(), ['createdAt', 'current', 'id', 'lastSeenAt', 'userAgent'])
    t.match(session.id, /^[\w-]{22}$/)
    for (const time of [session.createdAt, session.lastSeenAt]) {
      t.match(time, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
      t.ok(Date.parse(time) >= before && Date.parse(time) <= Date.now())
    }
  }
  t.strictSame(
    body.map(({ current }: { current: boolean }) => current),
    [true, false],
    'the one that was used last comes first'
  )
  const text = JSON.stringify(body)
  for (const secret of [token, second]) t.notOk(text.includes(secret.slice(0, 8)), 'no token')
  t.equal(
    body[0].id,
    createHash('sha256').update(token).digest('base64url').slice(0, 22),
    'the same wherever it is asked'
  )
  const again = await list(second)
  t.strictSame(
    again.body.map(({ id, current }: { id: string; current: boolean }) => [id, current]),
    [
      [body[1].id, true],
      [body[0].id, false]
    ]
  )
  t.equal((await list(stranger)).body.length, 1, "nobody sees another's")
  t.strictSame(
    (await list(token)).body.find(({ current }: { current: boolean }) => current).createdAt,
    body[0].createdAt,
    'and it stays'
  )
})

t.test('a session shows the User-Agent header of its login, cleaned and cut', async (t) => {
  const { call, register, list } = await start(t)
  const { nickname, userId } = await register()
  const login = async (agent?: string) => {
    const headers = agent === undefined ? {} : { 'user-agent': agent }
    return (await call('POST', '/api/login', { body: { nickname, password }, headers })).body.token
  }
  const shown = async (token: string) =>
    (await list(token)).body.find(({ current }: { current: boolean }) => current).userAgent
  for (const [sent, expected] of [
    ['Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0', 'Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0'],
    ['with\ta tab\u0085 and\u009b2J controls', 'with a tab and 2J controls'],
    ['x'.repeat(5000), 'x'.repeat(200)],
    ['\u0085\u00ad', null]
  ] as const) {
    t.equal(await shown(await login(sent)), expected, sent.slice(0, 50))
  }
  t.equal((await list(await login('later'))).body.length, 6)

  const token = randomBytes(32).toString('hex')
  const redis = openRedis(t)
  await redis.set(`session:${token}`, userId, 'EX', 86_400)
  t.equal(await shown(token), null, 'of a session that the Go service started')

  const ended = await login('ended')
  t.equal((await call('POST', '/api/logout', { token: ended })).status, 204)
  t.equal(await redis.exists(`chat-backend:session-agent:${ended}`), 0, 'nothing is left of a session')
  const agentKey = `chat-backend:session-agent:${await login('alive')}`
  const left = await redis.ttl(agentKey)
  t.ok(left > 86_000 && left <= 86_400, 'and it expires with its session')
})

t.test('sessions that are looked up at the same moment are not mixed up', async (t) => {
  const { register, call } = await start(t)
  const users = await Promise.all(Array.from({ length: 8 }, () => register()))
  const tokens = users.flatMap(({ token }) => [token, randomBytes(32).toString('hex'), token])
  const answers = await Promise.all(
    tokens.map((token) => call('POST', '/api/messages', { token, body: { text: 'hello' } }))
  )
  t.strictSame(
    answers.map(({ status, body }) => (status === 201 ? body.userId : status)),
    users.flatMap(({ userId }) => [userId, 401, userId])
  )
})

t.test('using a session is noted, at most once a minute in each process', async (t) => {
  const { register, list, call } = await start(t)
  const { token, userId } = await register()
  const redis = openRedis(t)
  const uses = usesKey(userId)
  const use = async () => {
    await redis.zadd(uses, 1, token)
    await call('POST', '/api/messages', { token, body: { text: 'hello' } })
  }
  await use()
  await waitUntil('it is noted beside the request', async () => Number(await redis.zscore(uses, token)) > 1)
  await use()
  const noted = Number(await redis.zscore(uses, token))
  // Only if a minute began between the two posts, the second one was noted too.
  t.ok(noted === 1 || noted % 60_000 < 30_000)
  t.ok(Date.now() - Date.parse((await list(token)).body[0].lastSeenAt) < 60_000)
  t.ok((await redis.ttl(uses)) > 86_000, 'and it goes with the session')
})

t.test('a user has at most a hundred sessions, and the least recently used one ends first', async (t) => {
  const { register, login, list, works } = await start(t)
  const { token: first, nickname } = await register()
  const tokens = [first]
  for (let i = 1; i < 100; i++) tokens.push((await login(nickname, password)).body.token)
  t.equal((await list(first)).body.length, 100, 'which uses the first one')
  const last = (await login(nickname, password)).body.token
  const { body } = await list(last)
  t.equal(body.length, 100)
  t.strictSame(body.map(({ current }: { current: boolean }) => current).indexOf(true), 0)
  const [second = '', third = ''] = tokens.slice(1)
  t.notOk(await works(second), 'the second has ended')
  for (const token of [first, third, last]) t.ok(await works(token))
})

t.test(
  'of fifty logins at once, on two replicas, as many sessions are left as a user may have',
  async (t) => {
    const one = await start(t)
    const other = await start(t, { POSTGRES_DB: one.database })
    const { token, nickname, userId } = await one.register()
    const redis = openRedis(t)
    const before = [token]
    for (let i = 0; i < 80; i++) before.push((await one.login(nickname, password)).body.token)
    const answers = await Promise.all(
      Array.from({ length: 50 }, (_, i) => (i % 2 ? one : other).login(nickname, password))
    )
    t.ok(answers.every(({ status }) => status === 200))
    const started: string[] = answers.map(({ body }) => body.token)
    const alive = async (tokens: string[]) =>
      (await redis.mget(tokens.map((token) => `session:${token}`))).filter((owner) => owner === `${userId}`)
        .length
    t.equal(await alive(started), 50, 'the new ones are those that were used last')
    t.equal(await alive([...before, ...started]), 100)
    t.equal((await other.list(started[0]!)).body.length, 100)
  }
)

t.test('sessions of the Go service count as soon as they are used here', async (t) => {
  const { register, list, call } = await start(t)
  const { userId } = await register()
  const redis = openRedis(t)
  const tokens = Array.from({ length: 130 }, () => randomBytes(32).toString('hex'))
  for (const token of tokens) await redis.set(`session:${token}`, `${userId}`, 'EX', 86_400)
  for (const token of tokens) {
    t.equal((await call('POST', '/api/messages', { token, body: { text: 'hello' } })).status, 201)
  }
  const count = async () => await redis.exists(tokens.map((token) => `session:${token}`))
  await waitUntil('a hundred of them are left', async () => (await count()) <= 100)
  t.equal((await list(tokens.at(-1)!)).body.length, await count())
})

t.test('thousands of sessions that were stored before are cut to a hundred', async (t) => {
  const { register, list, login } = await start(t)
  const redis = openRedis(t)
  for (const touch of ['list', 'login'] as const) {
    const { token, userId, nickname } = await register()
    const tokens = Array.from({ length: 5000 }, () => randomBytes(32).toString('hex'))
    const now = Date.now()
    // As they were stored before there was a limit. Every third of them has ended since.
    for (let from = 0; from < tokens.length; from += 500) {
      const pipeline = redis.pipeline()
      for (const [i, token] of tokens.slice(from, from + 500).entries()) {
        const age = (from + i) * 10_000
        pipeline.zadd(`chat-backend:user-sessions:${userId}`, now + 86_400_000 - age, token)
        if (i % 3 !== 0) pipeline.set(`session:${token}`, `${userId}`, 'PX', 86_400_000 - age)
      }
      await pipeline.exec()
    }
    const newest = tokens.filter((_, i) => (i % 500) % 3 !== 0).slice(0, 98)

    const { done, ms } = await measure(async () => {
      const logins = touch === 'login' ? [(await login(nickname, password)).body.token] : []
      return { logins, lists: await Promise.all(Array.from({ length: 10 }, () => list(token))) }
    })
    const { logins, lists } = done
    t.ok(ms < 3000, `${touch}: within 3 s: ${Math.round(ms)} ms`)
    for (const { status, body } of lists) {
      t.equal(status, 200)
      t.equal(body.length, 100)
    }
    const alive = await redis.exists([...tokens, token, ...logins].map((token) => `session:${token}`))
    t.equal(alive, 100)
    t.equal(await redis.exists(newest.map((token) => `session:${token}`)), 98, 'the newest of them')
    t.equal(await redis.zcard(`chat-backend:user-sessions:${userId}`), 100)
  }
})

t.test('one session can be ended, and only by its user', async (t) => {
  const { register, login, list, call, works } = await start(t)
  const { token, nickname } = await register()
  const {
    body: { token: second }
  } = await login(nickname, password)
  const { token: stranger } = await register()
  const end = (token: string, id: string) => call('DELETE', `/api/sessions/${id}`, { token })
  const [mine, others] = (await list(token)).body

  t.match(await end(stranger, others.id), {
    status: 404,
    body: { error: 'you have no such session', code: 'session_unknown' }
  })
  for (const id of ['x', token, '__proto__', encodeURIComponent('../..')]) {
    t.equal((await end(token, id)).status, 404, id)
  }
  t.equal((await end(token, others.id)).status, 204)
  t.notOk(await works(second))
  t.equal((await end(token, others.id)).status, 404, 'it is gone')
  t.strictSame(
    (await list(token)).body.map(({ id }: { id: string }) => id),
    [mine.id]
  )
  t.equal((await end(token, mine.id)).status, 204, 'the own one can be ended, too')
  t.match(await list(token), { status: 401, body: { error: 'session not found' } })
})

t.test('all other sessions can be ended, those of the Go service too', async (t) => {
  const { register, login, list, call, works } = await start(t)
  const redis = openRedis(t)
  const { token, nickname, userId } = await register()
  const {
    body: { token: second }
  } = await login(nickname, password)
  const { token: stranger } = await register()
  const [used, unused] = [randomBytes(32).toString('hex'), randomBytes(32).toString('hex')]
  for (const token of [used, unused]) await redis.set(`session:${token}`, `${userId}`, 'EX', 86_400)
  t.equal((await list(token)).body.length, 2)
  t.equal((await list(used)).body.length, 3, 'one of the Go service appears when it is used')
  t.ok(
    Math.abs(Date.parse((await list(used)).body[0].createdAt) - Date.now()) < 60_000,
    'with the time when it began'
  )

  await redis.lpush('session:of another program', 'a list')
  t.teardown(() => openRedis(t).del('session:of another program'))
  t.equal((await call('DELETE', '/api/sessions', { token })).status, 204)
  for (const token of [second, used, unused]) t.notOk(await works(token))
  t.ok(await works(token))
  t.ok(await works(stranger))
  t.equal((await list(token)).body.length, 1)
  t.equal(await redis.get(`session:${token}`), `${userId}`, 'what the Go service reads is as it was')
})

t.test(
  'ending the other sessions at once, for several users and from several of their sessions',
  async (t) => {
    const { register, login, call } = await start(t)
    const redis = openRedis(t)
    const users = await Promise.all(
      Array.from({ length: 5 }, async () => {
        const { token, nickname } = await register()
        return {
          keeps: token,
          ends: (await Promise.all([1, 2, 3].map(() => login(nickname, password)))).map(
            ({ body }) => body.token
          )
        }
      })
    )
    const { token: one, nickname } = await register()
    const {
      body: { token: other }
    } = await login(nickname, password)
    const bystander = await register()
    const answers = await Promise.all(
      [...users.map(({ keeps }) => keeps), one, other].map((token) =>
        call('DELETE', '/api/sessions', { token })
      )
    )
    for (const { status } of answers.slice(0, 5)) t.equal(status, 204)
    for (const { keeps, ends } of users) {
      t.equal(await redis.exists(`session:${keeps}`), 1)
      t.equal(await redis.exists(ends.map((token: string) => `session:${token}`)), 0)
    }
    t.ok(
      (await redis.exists(`session:${one}`, `session:${other}`)) <= 1,
      'two that end each other are not both left'
    )
    t.equal(await redis.exists(`session:${bystander.token}`), 1)
  }
)

t.test('ended and expired sessions disappear from the list', async (t) => {
  const { register, login, list, call } = await start(t)
  const redis = openRedis(t)
  const { token, nickname, userId } = await register()
  const [
    {
      body: { token: expired }
    },
    {
      body: { token: left }
    },
    {
      body: { token: taken }
    }
  ] = [await login(nickname, password), await login(nickname, password), await login(nickname, password)]
  t.equal((await list(token)).body.length, 4)
  await redis.pexpire(`session:${expired}`, 1)
  await waitUntil('the session expires', async () => !(await redis.exists(`session:${expired}`)))
  await call('POST', '/api/logout', { token: left })
  await redis.set(`session:${taken}`, `${userId + 1}`, 'KEEPTTL')
  t.equal((await list(token)).body.length, 1)

  // What is known of them goes when they would have expired, at the next sign of life.
  const index = `chat-backend:user-sessions:${userId}`
  await redis.zadd(index, Date.now() - 1, expired)
  await list(token)
  t.equal(await redis.zscore(index, expired), null)
  t.ok((await redis.ttl(index)) > 86_000)
})

t.test('changing the password ends the other sessions and keeps this one', async (t) => {
  const { register, login, change, works, call } = await start(t)
  const { token, nickname, userId } = await register()
  const {
    body: { token: second }
  } = await login(nickname, password)
  const go = randomBytes(32).toString('hex')
  await openRedis(t).set(`session:${go}`, `${userId}`, 'EX', 86_400)

  for (const [body, status, error] of [
    [{ currentPassword: 'wrong horse', newPassword }, 401, 'invalid credentials'],
    [{ currentPassword: 'x'.repeat(100), newPassword }, 401, 'invalid credentials'],
    [{ newPassword }, 400, 'current password must be provided'],
    [{ currentPassword: '', newPassword }, 400, 'current password must be provided'],
    [{ currentPassword: password }, 400, 'new password must be provided'],
    [
      { currentPassword: password, newPassword: 'x'.repeat(7) },
      400,
      'password must have at least 8 characters'
    ],
    [{ currentPassword: password, newPassword: 'x'.repeat(73) }, 400, 'password must have at most 72 bytes'],
    [
      { currentPassword: password, newPassword: 'Trustno1' },
      400,
      'password is too common, choose another one'
    ],
    [{ currentPassword: password, newPassword: 12345678 }, 400, 'new password must be a string']
  ] as const) {
    t.match(await change(token, body), { status, body: { error } }, error)
    t.ok(await works(second), 'nothing happened')
  }

  const { status, body } = await change(token, { currentPassword: password, newPassword })
  t.equal(status, 204)
  t.equal(body, undefined)
  t.ok(await works(token))
  for (const token of [second, go]) t.notOk(await works(token))
  t.equal((await login(nickname, password)).status, 401)
  t.equal((await login(nickname, newPassword)).status, 200)
  t.match(
    await call('PUT', '/api/password', { body: { currentPassword: newPassword, newPassword: password } }),
    { status: 401, body: { code: 'authorization_missing' } }
  )
})

t.test('a concurrent login with the old password gets no session', async (t) => {
  const { register, login, change, database } = await start(t)
  const { token, nickname } = await register()
  const { reached, go } = await holdChanges(t, database)
  const changed = change(token, { currentPassword: password, newPassword })
  await reached()
  const {
    body: { token: between }
  } = await login(nickname, password)
  t.type(between, 'string', 'the old password is still the one')
  await go()
  t.equal((await changed).status, 204)
  t.equal(await openRedis(t).get(`session:${between}`), null, 'that session ends with the change')

  // And one that checked the old password before the change, but starts its session after it, ends that by
  // itself.
  const racing = await Promise.all([
    change(token, { currentPassword: newPassword, newPassword: password }),
    ...Array.from({ length: 10 }, () => login(nickname, newPassword))
  ])
  const [{ status }, ...logins] = racing
  t.equal(status, 204)
  const redis = openRedis(t)
  for (const { body } of logins) if (body.token) t.equal(await redis.exists(`session:${body.token}`), 0)
})

t.test('a password change that fails half-way ends other sessions, keeps the old password', async (t) => {
  const proxy = await startProxy(t, config.REDIS_HOST!, config.REDIS_PORT)
  const { register, login, change, database, call } = await start(t, {
    REDIS_HOST: '127.0.0.1',
    REDIS_PORT: proxy.port
  })
  const { token, nickname } = await register()
  const {
    body: { token: second }
  } = await login(nickname, password)
  const { reached, go } = await holdChanges(t, database)
  const changed = change(token, { currentPassword: password, newPassword })
  await reached()
  t.equal(await openRedis(t).exists(`session:${second}`), 0)
  await proxy.cut()
  await go()
  t.match(await changed, { status: 503, body: { error: 'redis is not ready' } })
  await proxy.mend()
  await waitUntil('readyz is 200', async () => (await call('GET', '/health/readyz')).status === 200)
  t.equal((await login(nickname, newPassword)).status, 401)
  t.equal(
    (await change(token, { currentPassword: password, newPassword })).status,
    204,
    'and can be tried again'
  )
})

t.test('a password change whose result was lost keeps the old password, and can be repeated', async (t) => {
  const proxy = await startProxy(t, config.POSTGRES_HOST!, config.POSTGRES_PORT)
  const { register, login, change, database } = await start(t, {
    POSTGRES_HOST: '127.0.0.1',
    POSTGRES_PORT: proxy.port
  })
  const { token, nickname } = await register()
  const { reached, go } = await holdChanges(t, database)
  const changed = change(token, { currentPassword: password, newPassword })
  await reached()
  proxy.blackhole() // The update is with the server; its answer will not come back.
  await go()
  t.match(await changed, { status: 503, body: { code: 'database_unavailable' } })
  t.equal((await login(nickname, newPassword)).status, 401)
  t.equal((await login(nickname, password)).status, 200)
  t.equal((await change(token, { currentPassword: password, newPassword })).status, 204)
})

t.test('a login that fails leaves no session behind', async (t) => {
  const { register, login, list, database } = await start(t)
  const { token, nickname } = await register()
  const client = await connect(t, database)
  await client.query('alter function chat_member rename to gone')
  t.equal((await login(nickname, password)).status, 503)
  await client.query('alter function gone rename to chat_member')
  t.match(await list(token), { status: 200, body: { length: 1 } })
})

t.test("a deleted user's token opens none of this, and an outage is 503", async (t) => {
  const proxy = await startProxy(t, config.REDIS_HOST!, config.REDIS_PORT)
  const { register, call, database } = await start(t, { REDIS_HOST: '127.0.0.1', REDIS_PORT: proxy.port })
  const { token, userId } = await register()
  const every = () =>
    Promise.all([
      call('GET', '/api/sessions', { token }),
      call('DELETE', '/api/sessions', { token }),
      call('DELETE', '/api/sessions/x', { token }),
      call('PUT', '/api/password', { token, body: { currentPassword: password, newPassword } })
    ])
  await proxy.cut()
  for (const answer of await every()) t.match(answer, { status: 503, body: { error: 'redis is not ready' } })
  await proxy.mend()
  await waitUntil('readyz is 200', async () => (await call('GET', '/health/readyz')).status === 200)
  await (await connect(t, database)).query('delete from chat_user where id = $1', [userId])
  for (const answer of await every()) t.match(answer, { status: 401, body: { error: 'user not found' } })
})
