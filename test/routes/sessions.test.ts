import { createHash, randomBytes } from 'node:crypto'
import t, { type Test } from 'tap'
import { startService } from '../helpers/app.ts'
import { config, connect, openRedis, ownUserIds } from '../helpers/database.ts'
import { startProxy } from '../helpers/proxy.ts'

const password = 'correct horse'
const newPassword = 'another horse'

async function start (t: Test, overrides = {}) {
  const service = await startService(t, overrides)
  await ownUserIds(t, service.database)
  const { call } = service
  return {
    ...service,
    login: (nickname: string, password: string) => call('POST', '/api/login', { body: { nickname, password } }),
    list: (token: string) => call('GET', '/api/sessions', { token }),
    change: (token: string, body: object) => call('PUT', '/api/password', { token, body }),
    works: async (token: string) => (await call('POST', '/api/messages', { token, body: { text: 'still here' } })).status === 201
  }
}

/** Holds back the change of any user until `go` is called. @returns also `reached`, which resolves once a change waits */
async function holdChanges (t: Test, database: string) {
  const [holder, watcher] = [await connect(t, database), await connect(t, database)]
  await holder.query('begin')
  await holder.query('select from chat_user for update')
  return {
    reached: async () => {
      while ((await watcher.query("select from pg_locks join pg_stat_activity using (pid) where not granted and query like 'update chat_user%'")).rows.length === 0);
    },
    go: () => holder.query('commit')
  }
}

t.test('a user sees the sessions, and which one is asking', async (t) => {
  const { register, login, list } = await start(t)
  const before = Date.now()
  const { token, nickname } = await register()
  const { body: { token: second } } = await login(nickname, password)
  const { token: stranger } = await register()

  const { status, body } = await list(token)
  t.equal(status, 200)
  t.equal(body.length, 2)
  for (const session of body) {
    t.strictSame(Object.keys(session).sort(), ['createdAt', 'current', 'id', 'lastSeenAt'])
    t.match(session.id, /^[\w-]{22}$/)
    for (const time of [session.createdAt, session.lastSeenAt]) {
      t.match(time, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
      t.ok(Date.parse(time) >= before && Date.parse(time) <= Date.now())
    }
  }
  t.strictSame(body.map(({ current }: { current: boolean }) => current), [true, false], 'the one that was used last comes first')
  const text = JSON.stringify(body)
  for (const secret of [token, second]) t.notOk(text.includes(secret.slice(0, 8)), 'no token')
  t.equal(body[0].id, createHash('sha256').update(token).digest('base64url').slice(0, 22), 'the same wherever it is asked')
  const again = await list(second)
  t.strictSame(again.body.map(({ id, current }: { id: string, current: boolean }) => [id, current]), [[body[1].id, true], [body[0].id, false]])
  t.equal((await list(stranger)).body.length, 1, "nobody sees another's")
  t.strictSame((await list(token)).body.find(({ current }: { current: boolean }) => current).createdAt, body[0].createdAt, 'and it stays')
})

t.test('sessions that are looked for at the same moment are not mixed up', async (t) => {
  const { register, call } = await start(t)
  const users = await Promise.all(Array.from({ length: 8 }, () => register()))
  const tokens = users.flatMap(({ token }) => [token, randomBytes(32).toString('hex'), token])
  const answers = await Promise.all(tokens.map((token) => call('POST', '/api/messages', { token, body: { text: 'hello' } })))
  t.strictSame(answers.map(({ status, body }) => status === 201 ? body.userId : status), users.flatMap(({ userId }) => [userId, 401, userId]))
})

t.test('using a session is noted, at most once a minute in each process', async (t) => {
  const { register, list, call } = await start(t)
  const { token } = await register()
  const redis = openRedis(t)
  const seen = `chat-backend:session-seen:${token}`
  const use = async () => {
    await redis.set(seen, 0)
    await call('POST', '/api/messages', { token, body: { text: 'hello' } })
  }
  await use()
  while (await redis.get(seen) === '0'); // It is noted beside the request, and maybe after its answer.
  await use()
  const noted = Number(await redis.get(seen))
  // Only if a minute began between the two posts, the second one was noted too.
  t.ok(noted === 0 || noted % 60_000 < 30_000)
  t.ok(Date.now() - Date.parse((await list(token)).body[0].lastSeenAt) < 60_000)
  t.ok(await redis.ttl(seen) > 86_000, 'and it goes with the session')
})

t.test('one session can be ended, and only by its user', async (t) => {
  const { register, login, list, call, works } = await start(t)
  const { token, nickname } = await register()
  const { body: { token: second } } = await login(nickname, password)
  const { token: stranger } = await register()
  const end = (token: string, id: string) => call('DELETE', `/api/sessions/${id}`, { token })
  const [mine, others] = (await list(token)).body

  t.match(await end(stranger, others.id), { status: 404, body: { error: 'you have no such session', code: 'session_unknown' } })
  for (const id of ['x', token, '__proto__', encodeURIComponent('../..')]) t.equal((await end(token, id)).status, 404, id)
  t.equal((await end(token, others.id)).status, 204)
  t.notOk(await works(second))
  t.equal((await end(token, others.id)).status, 404, 'it is gone')
  t.strictSame((await list(token)).body.map(({ id }: { id: string }) => id), [mine.id])
  t.equal((await end(token, mine.id)).status, 204, 'the own one can be ended, too')
  t.match(await list(token), { status: 401, body: { error: 'session not found' } })
})

t.test('all other sessions can be ended, those of the Go service too', async (t) => {
  const { register, login, list, call, works } = await start(t)
  const redis = openRedis(t)
  const { token, nickname, userId } = await register()
  const { body: { token: second } } = await login(nickname, password)
  const { token: stranger } = await register()
  const [used, unused] = [randomBytes(32).toString('hex'), randomBytes(32).toString('hex')]
  for (const token of [used, unused]) await redis.set(`session:${token}`, `${userId}`, 'EX', 86_400)
  t.equal((await list(token)).body.length, 2)
  t.equal((await list(used)).body.length, 3, 'one of the Go service appears when it is used')
  t.ok(Math.abs(Date.parse((await list(used)).body[0].createdAt) - Date.now()) < 60_000, 'with the time when it began')

  t.equal((await call('DELETE', '/api/sessions', { token })).status, 204)
  for (const token of [second, used, unused]) t.notOk(await works(token))
  t.ok(await works(token))
  t.ok(await works(stranger))
  t.equal((await list(token)).body.length, 1)
  t.equal(await redis.get(`session:${token}`), `${userId}`, 'what the Go service reads is as it was')
})

t.test('sessions that ended or expired vanish', async (t) => {
  const { register, login, list, call } = await start(t)
  const redis = openRedis(t)
  const { token, nickname, userId } = await register()
  const [{ body: { token: expired } }, { body: { token: left } }, { body: { token: taken } }] =
    [await login(nickname, password), await login(nickname, password), await login(nickname, password)]
  t.equal((await list(token)).body.length, 4)
  await redis.pexpire(`session:${expired}`, 1)
  while (await redis.exists(`session:${expired}`));
  await call('POST', '/api/logout', { token: left })
  await redis.set(`session:${taken}`, `${userId + 1}`, 'KEEPTTL')
  t.equal((await list(token)).body.length, 1)

  // What is known of them goes when they would have expired, at the next sign of life.
  const index = `chat-backend:user-sessions:${userId}`
  await redis.zadd(index, Date.now() - 1, expired)
  await list(token)
  t.equal(await redis.zscore(index, expired), null)
  t.ok(await redis.ttl(index) > 86_000)
})

t.test('a new password ends the other sessions and keeps this one', async (t) => {
  const { register, login, change, works, call } = await start(t)
  const { token, nickname, userId } = await register()
  const { body: { token: second } } = await login(nickname, password)
  const go = randomBytes(32).toString('hex')
  await openRedis(t).set(`session:${go}`, `${userId}`, 'EX', 86_400)

  for (const [body, status, error] of [
    [{ currentPassword: 'wrong horse', newPassword }, 401, 'invalid credentials'],
    [{ currentPassword: 'x'.repeat(100), newPassword }, 401, 'invalid credentials'],
    [{ newPassword }, 400, 'current password must be provided'],
    [{ currentPassword: '', newPassword }, 400, 'current password must be provided'],
    [{ currentPassword: password }, 400, 'new password must be provided'],
    [{ currentPassword: password, newPassword: 'x'.repeat(7) }, 400, 'password must have at least 8 characters'],
    [{ currentPassword: password, newPassword: 'x'.repeat(73) }, 400, 'password is too long'],
    [{ currentPassword: password, newPassword: 'Trustno1' }, 400, 'password is too common'],
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
  t.match(await call('PUT', '/api/password', { body: { currentPassword: newPassword, newPassword: password } }), { status: 401, body: { code: 'authorization_missing' } })
})

t.test('a login with the old password that is under way during the change gets nothing', async (t) => {
  const { register, login, change, database } = await start(t)
  const { token, nickname } = await register()
  const { reached, go } = await holdChanges(t, database)
  const changed = change(token, { currentPassword: password, newPassword })
  await reached()
  const { body: { token: between } } = await login(nickname, password)
  t.type(between, 'string', 'the old password is still the one')
  await go()
  t.equal((await changed).status, 204)
  t.equal(await openRedis(t).get(`session:${between}`), null, 'that session ends with the change')

  // And one that checked the old password before the change, but starts its session after it, ends that by itself.
  const racing = await Promise.all([
    change(token, { currentPassword: newPassword, newPassword: password }), ...Array.from({ length: 10 }, () => login(nickname, newPassword))
  ])
  const [{ status }, ...logins] = racing
  t.equal(status, 204)
  const redis = openRedis(t)
  for (const { body } of logins) if (body.token) t.equal(await redis.exists(`session:${body.token}`), 0)
})

t.test('a change that fails half-way leaves no other session, and the old password', async (t) => {
  const proxy = await startProxy(t, config.REDIS_HOST!, config.REDIS_PORT)
  const { register, login, change, database, call } = await start(t, { REDIS_HOST: '127.0.0.1', REDIS_PORT: proxy.port })
  const { token, nickname } = await register()
  const { body: { token: second } } = await login(nickname, password)
  const { reached, go } = await holdChanges(t, database)
  const changed = change(token, { currentPassword: password, newPassword })
  await reached()
  t.equal(await openRedis(t).exists(`session:${second}`), 0)
  await proxy.cut()
  await go()
  t.match(await changed, { status: 503, body: { error: 'redis is not ready' } })
  await proxy.mend()
  while ((await call('GET', '/health/readyz')).status !== 200);
  t.equal((await login(nickname, newPassword)).status, 401)
  t.equal((await change(token, { currentPassword: password, newPassword })).status, 204, 'and can be tried again')
})

t.test("a deleted user's token opens none of this, and an outage is 503", async (t) => {
  const proxy = await startProxy(t, config.REDIS_HOST!, config.REDIS_PORT)
  const { register, call, database } = await start(t, { REDIS_HOST: '127.0.0.1', REDIS_PORT: proxy.port })
  const { token, userId } = await register()
  const every = () => Promise.all([
    call('GET', '/api/sessions', { token }), call('DELETE', '/api/sessions', { token }), call('DELETE', '/api/sessions/x', { token }),
    call('PUT', '/api/password', { token, body: { currentPassword: password, newPassword } })
  ])
  await proxy.cut()
  for (const answer of await every()) t.match(answer, { status: 503, body: { error: 'redis is not ready' } })
  await proxy.mend()
  while ((await call('GET', '/health/readyz')).status !== 200);
  await (await connect(t, database)).query('delete from chat_user where id = $1', [userId])
  for (const answer of await every()) t.match(answer, { status: 401, body: { error: 'user not found' } })
})
