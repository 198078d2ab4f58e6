import { randomInt } from 'node:crypto'
import { availableParallelism } from 'node:os'
import t from 'tap'
import { type Service, startQuietService, startService } from '../helpers/app.ts'
import { config, connect, ownUserIds } from '../helpers/database.ts'
import { startProxy } from '../helpers/proxy.ts'
import { startModerated } from '../helpers/people.ts'
import { waitUntil } from '../helpers/raw.ts'
import { openStream } from '../helpers/stream.ts'

/**
 * What `/metrics` says of one series, such as `chat_event_streams` or `chat_password_queue{state="running"}`.
 */
async function read({ call }: Service, series: string): Promise<number | undefined> {
  const { body } = await call('GET', '/metrics')
  const line = (body as string).split('\n').find((line) => line.startsWith(`${series} `))
  return line === undefined ? undefined : Number(line.slice(series.length + 1))
}

/** Asks until the series has that value. */
async function becomes(service: Service, series: string, value: number): Promise<void> {
  await waitUntil(`${series} is ${value}`, async () => (await read(service, series)) === value)
}

const count = (method: string, route: string, status: number) =>
  `http_request_duration_seconds_count{method="${method}",route="${route}",status="${status}"}`

t.test('the response is in the Prometheus format, with a help text for each metric', async (t) => {
  const service = await startService(t)
  const { status, headers, body } = await service.call('GET', '/metrics')
  t.equal(status, 200)
  t.equal(headers.get('content-type'), 'text/plain; version=0.0.4; charset=utf-8')
  for (const name of [
    'http_request_duration_seconds',
    'chat_postgres_pool_connections',
    'chat_postgres_pool_waiting',
    'chat_password_queue',
    'chat_write_queue',
    'chat_write_batch_messages',
    'chat_log_lag_seconds',
    'chat_log_in_force',
    'chat_log_missed_messages_total',
    'chat_event_streams',
    'chat_long_polls',
    'chat_rate_limit_rejections_total',
    'chat_restriction_refusals_total',
    'chat_search_queue',
    'chat_search_index_lag',
    'chat_build_info',
    'nodejs_eventloop_lag_p99_seconds',
    'process_cpu_seconds_total',
    'process_resident_memory_bytes'
  ]) {
    t.match(body, new RegExp(`^# HELP ${name} .{10,}\n# TYPE ${name} (gauge|counter|histogram)$`, 'm'))
  }
  t.equal(await read(service, `chat_build_info{version="1.0.0-rc.1",node="${process.versions.node}"}`), 1)
  t.match(await read(service, 'chat_postgres_pool_connections{state="idle"}'), Number)
  t.ok(((await read(service, 'chat_log_lag_seconds')) ?? 99) < 2, 'the log is followed')
})

t.test(
  'requests are counted by method, route pattern and status, and clients cannot add labels',
  async (t) => {
    const service = await startService(t)
    const { call, register, post } = service
    const { token } = await register()
    const { id } = await post(token, 'hello')
    for (const path of [
      '/api/messages',
      '/api/messages?limit=2',
      '/api/messages?limit=none',
      '/one',
      '/two?three',
      '/api/messages/x',
      '/api/events?since=x'
    ]) {
      await call('GET', path)
    }
    await call('DELETE', `/api/messages/${id}`, { token })
    for (const method of ['PUT', 'PROPFIND', 'SEARCH']) await call(method, '/api/login')
    for (const [series, value] of [
      [count('POST', '/api/messages', 201), 1],
      [count('GET', '/api/messages', 200), 2],
      [count('GET', '/api/messages', 400), 1],
      [count('DELETE', '/api/messages/:id', 200), 1],
      [count('GET', 'unknown', 404), 3],
      [count('GET', '/api/events', 400), 1],
      [count('PUT', '/api/login', 405), 1],
      [count('unknown', '/api/login', 405), 2]
    ] as const) {
      await becomes(service, series, value)
    }
  }
)

t.test('the wait of a long poll does not count as latency', async (t) => {
  const service = await startService(t)
  const waiting = service.call('GET', '/api/messages?after_id=0&wait=3')
  await becomes(service, 'chat_long_polls', 1)
  t.strictSame((await waiting).body, [])
  await becomes(service, 'chat_long_polls', 0)
  await becomes(service, count('GET', '/api/messages', 200), 1)
  t.ok(((await read(service, count('GET', '/api/messages', 200).replace('_count', '_sum'))) ?? 3) < 1.5)

  const stream = await openStream(t, service.url)
  await becomes(service, 'chat_event_streams', 1)
  stream.close()
  await becomes(service, 'chat_event_streams', 0)
  t.equal(await read(service, count('GET', '/api/events', 200)), undefined)
})

t.test('metrics show what waits for a connection, the next batch or a hashing thread', async (t) => {
  const service = await startQuietService(t, { POSTGRES_POOL: 1, BCRYPT_COST: 10 })
  const { call, register, database } = service
  const { token } = await register()
  const post = () => call('POST', '/api/messages', { token, body: { text: 'hello' } })
  const other = await connect(t, database)
  await other.query('begin')
  await other.query('lock table chat_message in exclusive mode')
  const posts = [post(), post(), post()]
  await becomes(service, 'chat_write_queue', 2)
  await becomes(service, 'chat_postgres_pool_connections{state="busy"}', 1)
  const login = () => call('POST', '/api/login', { body: { nickname: 'nobody', password: 'correct horse' } })
  const login1 = login()
  await becomes(service, 'chat_postgres_pool_waiting', 1)
  await other.query('commit')
  t.strictSame(
    (await Promise.all(posts)).map(({ status }) => status),
    [201, 201, 201]
  )
  t.equal((await login1).status, 401)
  t.equal(await read(service, 'chat_write_batch_messages_count'), 2)
  t.equal(await read(service, 'chat_write_batch_messages_sum'), 3)

  const logins = Array.from({ length: 10 * availableParallelism() }, login)
  await waitUntil('some are hashed while others wait', async () => {
    const { body } = await call('GET', '/metrics')
    const [waiting, running] = ['waiting', 'running'].map((state) =>
      Number(body.split(`\nchat_password_queue{state="${state}"} `)[1]?.split('\n')[0])
    )
    return waiting! > 0 && running! > 0
  })
  await Promise.all(logins)
  await becomes(service, 'chat_password_queue{state="waiting"}', 0)
  t.equal(await read(service, 'chat_password_queue{state="running"}'), 0)
})

t.test('refused requests are counted by rate limit', async (t) => {
  const service = await startService(t, { RATE_LIMIT: 'on', TRUST_PROXY: '127.0.0.1, ::1' })
  await ownUserIds(service.database)
  // Counted apart from other tests.
  const headers = { 'x-forwarded-for': `10.${randomInt(256)}.${randomInt(256)}.${randomInt(256)}` }
  const {
    body: { token }
  } = await service.call('POST', '/api/register', {
    headers,
    body: { nickname: 'alice', password: 'correct horse' }
  })
  for (const limit of ['failures', 'logins', 'registrations', 'sessions', 'writes']) {
    t.equal(await read(service, `chat_rate_limit_rejections_total{limit="${limit}"}`), 0)
  }
  const statuses = await Promise.all(
    Array.from(
      { length: 60 }, // ten, and five a second
      async () => (await service.call('POST', '/api/messages', { token, body: { text: 'hello' } })).status
    )
  )
  const refused = statuses.filter((status) => status === 429).length
  t.ok(refused > 0)
  await becomes(service, 'chat_rate_limit_rejections_total{limit="writes"}', refused)
  for (let tries = 0; tries < 11; tries++) {
    await service.call('POST', '/api/login', { headers, body: { nickname: 'alice', password: 'wrong' } })
  }
  await becomes(service, 'chat_rate_limit_rejections_total{limit="failures"}', 1)
})

t.test('the lag of the event log grows only while PostgreSQL is down', async (t) => {
  const proxy = await startProxy(t, config.POSTGRES_HOST!, config.POSTGRES_PORT)
  const service = await startService(t, { POSTGRES_HOST: '127.0.0.1', POSTGRES_PORT: proxy.port })
  const lag = async () => (await read(service, 'chat_log_lag_seconds')) ?? 0
  await proxy.cut()
  await waitUntil('the lag is 2 s', async () => (await lag()) >= 2)
  await proxy.mend()
  await waitUntil('the log is followed again', async () => (await lag()) <= 1)
})

t.test('an overloaded process still answers health checks and metrics', async (t) => {
  const service = await startService(t, { MAX_EVENT_LOOP_DELAY: 10 })
  await waitUntil('it is overloaded', async () => {
    const until = performance.now() + 100
    while (performance.now() < until);
    return (await service.call('GET', '/api/messages')).status === 503
  })
  t.equal((await service.call('GET', '/metrics')).status, 200)
})

t.test('requests refused by a restriction or a setting of the room are counted by reason', async (t) => {
  const service = await startModerated(t)
  const { call, registerAs, post } = service
  const moderator = await registerAs('moderator')
  const [banned, muted, member] = [
    await registerAs('member'),
    await registerAs('member'),
    await registerAs('member')
  ]
  const refusals = (reason: string) => `chat_restriction_refusals_total{reason="${reason}"}`
  const reasons = ['banned', 'muted', 'read_only', 'slow_mode']
  for (const reason of reasons) t.equal(await read(service, refusals(reason)), 0, reason)

  const restrict = (userId: number, kind: string) =>
    call('PUT', `/api/users/${userId}/restriction`, { token: moderator.token, body: { kind } })
  const setRoom = (body: object) => call('PATCH', '/api/room', { token: moderator.token, body })
  await restrict(banned.userId, 'ban')
  await restrict(muted.userId, 'mute')
  await call('POST', '/api/login', { body: { nickname: banned.nickname, password: 'correct horse' } })
  await post(muted.token, 'hello')
  await post(muted.token, 'hello?')
  await setRoom({ readOnly: true })
  await post(member.token, 'hello')
  await setRoom({ readOnly: false, slowModeSeconds: 600 })
  await post(member.token, 'hello')
  await post(member.token, 'too early')
  await becomes(service, refusals('banned'), 1)
  await becomes(service, refusals('muted'), 2)
  await becomes(service, refusals('read_only'), 1)
  await becomes(service, refusals('slow_mode'), 1)
})
