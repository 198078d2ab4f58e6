import t from 'tap'
import { startQuietService, startService } from '../helpers/app.ts'
import { admin, config, connect, createDatabase, ownUserIds } from '../helpers/database.ts'
import { startProxy } from '../helpers/proxy.ts'
import { waitUntil } from '../helpers/raw.ts'
import { openStream } from '../helpers/stream.ts'

t.test('connections that the server closes are harmless', async (t) => {
  const { call, database, logs } = await startQuietService(t) // so that none of them is in use
  const client = await connect(t, database)
  await Promise.all(
    Array.from({ length: 20 }, () =>
      call('POST', '/api/login', { body: { nickname: 'nobody', password: 'x' } })
    )
  )
  const { rowCount } = await client.query(
    "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'chat-backend' and pid <> pg_backend_pid()"
  )
  t.ok(rowCount && rowCount > 0, `${rowCount} connections ended`)
  const lost = () => logs.filter(({ msg }) => `${msg}`.startsWith('an idle PostgreSQL connection was lost'))
  await waitUntil('each loss is logged', () => lost().length >= rowCount!)
  t.equal((await call('GET', '/health/readyz')).status, 200)
})

t.test('during an outage the answer is 503 and never 401, and everything works again after it', async (t) => {
  const proxy = await startProxy(t, config.POSTGRES_HOST!, config.POSTGRES_PORT)
  const { call, register, post } = await startService(t, {
    POSTGRES_HOST: '127.0.0.1',
    POSTGRES_PORT: proxy.port
  })
  const { token, nickname } = await register()
  const requests = [
    () => call('POST', '/api/messages', { token, body: { text: 'lost?' } }),
    () => call('POST', '/api/login', { body: { nickname, password: 'correct horse' } }),
    () => call('POST', '/api/register', { body: { nickname: 'new', password: 'correct horse' } })
  ]

  await proxy.cut()
  for (const request of requests) {
    const { status, body, headers } = await request()
    t.equal(status, 503)
    t.match(body, { error: 'database is not ready', code: 'database_unavailable' })
    t.match(headers.get('retry-after'), /^\d+$/)
  }
  t.equal((await call('POST', '/api/logout', { token: 'none' })).status, 204, 'logout needs no database')

  await proxy.mend()
  for (const status of [201, 200, 201]) t.equal((await requests.shift()!()).status, status, 'as before')
  t.match(await post(token, 'after'), { text: 'after' })
})

t.test('a server that refuses new connections is an outage, too', async (t) => {
  const { call, database } = await startService(t)
  const client = await connect(t, config.POSTGRES_DB)
  const login = () => call('POST', '/api/login', { body: { nickname: 'nobody', password: 'x' } })
  const allow = (isAllowed: boolean) =>
    client.query(`alter database ${database} allow_connections ${isAllowed}`)
  for (const isRenamed of [false, true]) {
    // First, so that none begins in between.
    await allow(false)
    await client.query('select pg_terminate_backend(pid) from pg_stat_activity where datname = $1', [
      database
    ])
    if (isRenamed) await client.query(`alter database ${database} rename to ${database}_2`)
    // A connection that the pool still takes for alive fails first, and then the new one.
    for (const n of [1, 2, 3]) {
      const what = `${isRenamed ? 'there is no such database' : 'it takes no connections'}, ${n}`
      t.match(await login(), { status: 503, body: { code: 'database_unavailable' } }, what)
    }
    if (isRenamed) await client.query(`alter database ${database}_2 rename to ${database}`)
    await allow(true)
    t.equal((await login()).status, 401)
  }
})

t.test('a statement that does not end times out, and its connection is not used again', async (t) => {
  const { call, database, register } = await startService(t, { POSTGRES_POOL: 1 })
  const { token } = await register()
  const client = await connect(t, database)
  await client.query('begin; lock table chat_message')
  t.match(await call('POST', '/api/messages', { token, body: { text: 'blocked' } }), {
    status: 503,
    body: { code: 'database_unavailable' }
  })
  await client.query('rollback')
  t.equal((await call('POST', '/api/messages', { token, body: { text: 'free' } })).status, 201)
  t.equal((await call('GET', '/api/messages')).body.length, 1, 'the message that was refused is not there')
})

t.test('POSTGRES_URL and REDIS_URL work like the separate variables, whatever limits they set', async (t) => {
  const database = await createDatabase(t)
  const {
    POSTGRES_HOST,
    POSTGRES_PORT,
    POSTGRES_USER,
    POSTGRES_PASSWORD,
    REDIS_HOST,
    REDIS_PORT,
    REDIS_PASSWORD = ''
  } = config
  const password = encodeURIComponent(POSTGRES_PASSWORD)
  const limits = 'statement_timeout=1&lock_timeout=1&idle_in_transaction_session_timeout=1&query_timeout=1'
  const { call, register, post } = await startService(t, {
    POSTGRES_URL: `postgres://${POSTGRES_USER}:${password}@${POSTGRES_HOST}:${POSTGRES_PORT}/${database}?${limits}`,
    POSTGRES_HOST: 'nowhere.invalid',
    POSTGRES_DB: await createDatabase(t), // which stays empty
    REDIS_URL: `redis://:${REDIS_PASSWORD}@${REDIS_HOST}:${REDIS_PORT}/0`,
    REDIS_HOST: 'nowhere.invalid'
  })
  await ownUserIds(database)
  await post((await register()).token, 'hello')
  t.match((await call('GET', '/api/messages')).body, [{ text: 'hello' }])
  const client = await connect(t, database)
  t.equal(
    (await client.query('select text from chat_message')).rows[0].text,
    'hello',
    'it is in the database of the URL'
  )
})

for (const settings of [
  ["datestyle = 'SQL, DMY'", "intervalstyle = 'sql_standard'", "timezone = 'Asia/Kathmandu'"],
  ["datestyle = 'German'", "intervalstyle = 'iso_8601'", "timezone = 'America/St_Johns'"],
  [
    "datestyle = 'Postgres, MDY'",
    "bytea_output = 'escape'",
    'extra_float_digits = -15',
    'quote_all_identifiers = on'
  ],
  [
    "client_encoding = 'LATIN1'",
    'standard_conforming_strings = off',
    "backslash_quote = 'off'",
    'array_nulls = off',
    'transform_null_equals = on'
  ],
  ["default_transaction_isolation = 'serializable'", 'default_transaction_deferrable = on'],
  [
    "default_transaction_isolation = 'repeatable read'",
    "session_replication_role = 'replica'",
    'row_security = off'
  ],
  [
    "statement_timeout = '1ms'",
    "lock_timeout = '1ms'",
    "idle_in_transaction_session_timeout = '1ms'",
    "idle_session_timeout = '5ms'"
  ],
  [
    'jit = on',
    'jit_above_cost = 0',
    'enable_nestloop = off',
    'enable_indexscan = off',
    'enable_sort = off',
    'plan_cache_mode = force_custom_plan'
  ]
]) {
  t.test(`the service works on a database with ${settings.join(', ')}`, async (t) => {
    const database = await createDatabase(t)
    for (const setting of settings) await admin(`alter database ${database} set ${setting}`)
    const { call, register, post, url } = await startService(t, { POSTGRES_DB: database })
    const { token, userId, nickname } = await register()
    const stream = await openStream(t, url)
    const keyed = () =>
      call('POST', '/api/messages', {
        token,
        body: { text: "ж 😀 \\ '" },
        headers: { 'idempotency-key': 'once' }
      })
    const before = Date.now()
    const first = await keyed()
    t.match(first, { status: 201, body: { userId, nickname, text: "ж 😀 \\ '" } })
    t.ok(Math.abs(Date.parse(first.body.createdAt) - before) < 60_000, `${first.body.createdAt} is now`)
    t.strictSame((await keyed()).body, first.body, 'the same key gives the same message')
    const many = await Promise.all(['one', 'two', 'three'].map((text) => post(token, text)))
    t.match(await call('PATCH', `/api/messages/${many[0]!.id}`, { token, body: { text: 'edited' } }), {
      status: 200,
      body: { text: 'edited' }
    })
    t.equal((await call('DELETE', `/api/messages/${many[1]!.id}`, { token })).status, 200)
    t.strictSame((await stream.events(6)).map(({ data }) => data.type).sort(), [
      'message_created',
      'message_created',
      'message_created',
      'message_created',
      'message_deleted',
      'message_updated'
    ])
    const { status, body } = await call('GET', '/api/messages')
    t.equal(status, 200)
    t.strictSame(body[0], first.body)
    t.strictSame((await call('GET', '/api/messages?after_id=0')).body, body)
    t.equal((await call('POST', '/api/login', { body: { nickname, password: 'correct horse' } })).status, 200)
    t.equal((await call('GET', '/health/readyz')).status, 200)
  })
}

for (const encoding of ['LATIN1', 'EUC_JP', 'SQL_ASCII']) {
  t.test(`a database with the encoding ${encoding} is refused at once, in one sentence`, async (t) => {
    const database = `${await createDatabase(t)}_2`
    await admin(
      `create database ${database} template template0 encoding '${encoding}' lc_collate 'C' lc_ctype 'C'`
    )
    t.teardown(() => admin(`drop database ${database} with (force)`))
    for (const MIGRATE of ['on', 'off'] as const) {
      await t.rejects(startService(t, { POSTGRES_DB: database, MIGRATE }), {
        message: `the database ${database} must have the encoding UTF8, not ${encoding}`
      })
    }
  })
}

t.test('a deletion that waits too long for a connection and for the lock is not done later', async (t) => {
  const POOL = 4
  const { call, register, post, database } = await startQuietService(t, { POSTGRES_POOL: POOL })
  const { token } = await register()
  const { id } = await post(token, 'hello')
  const [holder, watcher] = [await connect(t, database), await connect(t, database)]
  await holder.query('begin; select pg_advisory_xact_lock(7243002)')
  const edits = Array.from({ length: POOL }, (_, n) =>
    call('PATCH', `/api/messages/${id}`, { token, body: { text: `edit ${n}` } })
  )
  const waiting =
    "select from pg_stat_activity where datname = current_database() and wait_event = 'advisory'"
  await waitUntil('all connections are in use', async () => (await watcher.query(waiting)).rowCount === POOL)
  const { status } = await call('DELETE', `/api/messages/${id}`, { token })
  t.equal(status, 503)
  await holder.query('commit')
  for (const answer of await Promise.all(edits)) t.equal(answer.status, 503)
  const deleting = `select from pg_stat_activity
    where datname = current_database() and state = 'active' and query like '%delete from chat_message %'
      and pid <> pg_backend_pid()`
  await waitUntil('nothing is under way', async () => (await watcher.query(deleting)).rowCount === 0)
  t.equal((await watcher.query('select from chat_message')).rowCount, 1)
})
