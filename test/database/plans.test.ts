import pg from 'pg'
import t, { type Test } from 'tap'
import { Retention } from '../../src/chat/retention.ts'
import { migrate } from '../../src/database/migrate.ts'
import { createQuery } from '../../src/database/query.ts'
import { startService } from '../helpers/app.ts'
import { admin, config, connect, createDatabase } from '../helpers/database.ts'
import { waitUntil } from '../helpers/raw.ts'
import { openStream } from '../helpers/stream.ts'
import { quiet } from '../helpers/quiet.ts'

// PostgreSQL adds 1e10 to the cost of a step that `enable_…` forbids; from version 18 on it marks the step
// instead.
const ABSURD_COST = 1e9

interface Plan {
  'Node Type': string
  'Total Cost': number
  'Actual Rows': number
  'Actual Loops': number
  Disabled?: boolean
  Plans?: Plan[]
}
interface Explained {
  'Query Text': string
  Plan: Plan
  JIT?: object
}

const nodes = (plan: Plan): Plan[] => [plan, ...(plan.Plans ?? []).flatMap(nodes)]
const isAbsurd = ({ Plan: plan }: Explained) =>
  nodes(plan).some((node) => node['Total Cost'] >= ABSURD_COST || node.Disabled === true)
const isOurs = ({ 'Query Text': text }: Explained) =>
  /chat_event|chat_message_key|chat_message_detail|chat_message_search|chat_user_skeleton|_rows/.test(text) &&
  !/^select pg_catalog/.test(text)

/** Connects as any other program does, with the settings of the database and no limits. */
async function connectAsAnother(t: Test, database: string): Promise<pg.Client> {
  const client = new pg.Client({
    host: config.POSTGRES_HOST,
    port: config.POSTGRES_PORT,
    user: config.POSTGRES_USER,
    password: config.POSTGRES_PASSWORD,
    database
  })
  await client.connect()
  t.teardown(() => client.end())
  return client
}

/** Reads what auto_explain tells the client about a statement. */
function readPlan({ message = '' }: { message?: string | undefined }): Explained[] {
  return /^duration: [^]* plan:\n/.test(message) ? [JSON.parse(message.slice(message.indexOf('{')))] : []
}

/**
 * An empty room whose server tells every plan, nested statements included, and compiles whatever it is not
 * told to leave alone.
 */
async function explainedRoom(t: Test): Promise<string> {
  const database = await createDatabase(t)
  const client = await connect(t, database)
  await migrate(client, quiet)
  await client.end()
  for (const setting of [
    "session_preload_libraries = 'auto_explain'",
    'jit = on',
    'jit_above_cost = 0',
    'auto_explain.log_min_duration = 0',
    'auto_explain.log_analyze = on',
    'auto_explain.log_nested_statements = on',
    'auto_explain.log_format = json',
    'auto_explain.log_level = notice'
  ]) {
    await admin(`alter database ${database} set ${setting}`)
  }
  return database
}

/** Lets every connection of this process tell its plans. @returns the list that they are added to */
function listenToPlans(t: Test): Explained[] {
  const explained: Explained[] = []
  const { connect: connectSilently } = pg.Client.prototype
  t.teardown(() => Object.assign(pg.Client.prototype, { connect: connectSilently }))
  Object.assign(pg.Client.prototype, {
    connect(this: pg.Client, ...args: unknown[]) {
      this.on('notice', (notice) => explained.push(...readPlan(notice)))
      return Reflect.apply(connectSilently, this, args)
    }
  })
  return explained
}

t.test('no statement of the service is JIT-compiled, or planned against its own settings', async (t) => {
  const explained = listenToPlans(t)
  const database = await explainedRoom(t)
  const { app, call, register, post, url } = await startService(t, { POSTGRES_DB: database })
  const { token, nickname } = await register()
  const keyed = (key: string, text: string) =>
    call('POST', '/api/messages', { token, body: { text }, headers: { 'idempotency-key': key } })
  const { id } = await post(token, 'one')
  await Promise.all(Array.from({ length: 50 }, (_, n) => post(token, `one of many ${n}`)))
  const ids = (await Promise.all(['a', 'a', 'b', 'b'].map((key) => keyed(key, key)))).map(
    ({ body }) => body.id
  )
  t.equal(new Set(ids).size, 2)
  t.equal((await keyed('a', 'other')).status, 422)
  t.equal((await call('POST', '/api/login', { body: { nickname, password: 'correct horse' } })).status, 200)
  t.equal((await call('PATCH', `/api/messages/${id}`, { token, body: { text: 'edited' } })).status, 200)
  t.equal((await call('DELETE', `/api/messages/${ids[0]}`, { token })).status, 200)
  t.equal(
    (
      await call('PUT', '/api/password', {
        token,
        body: { currentPassword: 'correct horse', newPassword: 'correct horses' }
      })
    ).status,
    204
  )
  t.equal((await call('GET', '/health/readyz')).status, 200)
  await app.sql(`
    insert into chat_message (user_id, text, created_at)
    select id, 'many', now() - interval '2 days' from chat_user, generate_series(1, 1500)`)
  for (const page of ['', '?after_id=0', '?before_id=1000', `?after_id=${id}&wait=1`]) {
    t.equal((await call('GET', `/api/messages${page}`)).status, 200)
  }
  await (await openStream(t, url, '?since=2')).events(1000)
  await new Retention(createQuery(app.pg.pool), { RETENTION_DAYS: 1, EVENT_RETENTION_HOURS: 1 }, quiet).trim()

  t.ok(explained.filter(isOurs).length > 30, 'the plans are told, those inside of the triggers too')
  for (const plan of explained) {
    t.notOk(plan.JIT, `not compiled: ${plan['Query Text']}`)
    t.notOk(isAbsurd(plan), `no absurd plan: ${plan['Query Text']}`)
  }
})

t.test('the service reads no more rows than it needs, even before PostgreSQL has statistics', async (t) => {
  const explained = listenToPlans(t)
  const database = await explainedRoom(t)
  const client = await connect(t, database)
  for (const table of ['chat_message', 'chat_event']) {
    await client.query(`alter table ${table} set (autovacuum_enabled = off)`)
  }
  const { app, call, register, post, url } = await startService(t, { POSTGRES_DB: database })
  const { token, userId } = await register()
  const insert = 'insert into chat_message (user_id, text) select $1, n::text from generate_series(1, 4000) n'
  for (let i = 0; i < 5; i++) await client.query(insert, [userId])
  await waitUntil('the log is followed', async () => app.room.timeline.newestId === 20_000, 60_000)

  explained.length = 0
  for (const page of ['?after_id=0', '?after_id=5000', '?before_id=15000&limit=200', '?before_id=100']) {
    t.equal((await call('GET', `/api/messages${page}`)).status, 200)
  }
  const { id } = await post(token, 'one more')
  t.equal((await call('PATCH', `/api/messages/${id}`, { token, body: { text: 'edited' } })).status, 200)
  await (await openStream(t, url, '?since=15000')).events(5000)
  t.ok(explained.length > 8)
  for (const { 'Query Text': text, Plan: plan } of explained) {
    const most = Math.max(...nodes(plan).map((node) => node['Actual Rows'] * node['Actual Loops']))
    t.ok(most <= 2500, `${most} rows: ${text}`)
  }
})

const SETTINGS = [
  'plan_cache_mode = force_generic_plan',
  'plan_cache_mode = force_custom_plan',
  ...[
    'bitmapscan',
    'hashagg',
    'hashjoin',
    'indexscan',
    'indexonlyscan',
    'material',
    'mergejoin',
    'nestloop',
    'seqscan',
    'sort'
  ].map((way) => `enable_${way} = off`),
  'enable_hashjoin = off; set enable_mergejoin = off; set enable_seqscan = off',
  'enable_sort = off; set enable_hashagg = off; set enable_hashjoin = off',
  'enable_indexscan = off; set enable_bitmapscan = off; set enable_nestloop = off'
]

const CHANGES = [
  "insert into chat_user (nickname, password_hash) values (clock_timestamp(), 'x')",
  "insert into chat_message (user_id, text) select id, 'from elsewhere' from chat_user, generate_series(1, 3) limit 3",
  "insert into chat_message_key (user_id, key, message_id, digest) select user_id, clock_timestamp(), id, '' from chat_message",
  "update chat_message set text = 'changed' where id = (select min(id) from chat_message)",
  'update chat_message set text = clock_timestamp()',
  'update chat_message set id = 1000000 + id where id = (select min(id) from chat_message)',
  'update chat_user set nickname = clock_timestamp()',
  'update chat_user set id = id + 1000000 where id not in (select user_id from chat_message)',
  'delete from chat_message where id = (select min(id) from chat_message)',
  'delete from chat_message',
  'truncate chat_message',
  'delete from chat_user',
  'truncate chat_user cascade'
]

t.test('the triggers use the same plans for every writer, whatever its session settings', async (t) => {
  const database = await explainedRoom(t)
  for (const setting of SETTINGS) {
    const writer = await connectAsAnother(t, database)
    const explained: Explained[] = []
    writer.on('notice', (notice) => explained.push(...readPlan(notice)))
    await writer.query(`set ${setting}`)
    for (const sql of CHANGES) await writer.query(sql)
    const ours = explained.filter(
      (plan) => isOurs(plan) && !/insert into chat_message_key/.test(plan['Query Text'])
    )
    t.ok(ours.length >= 8, `${setting}: ${ours.length} statements of the triggers`)
    for (const plan of ours) {
      t.notOk(plan.JIT, `${setting}: not compiled: ${plan['Query Text']}`)
      t.notOk(isAbsurd(plan), `${setting}: no absurd plan: ${plan['Query Text']}`)
    }
    await writer.end()
  }
})

t.test('the triggers cost no more after a batch of another size: one, or fifty thousand', async (t) => {
  const database = await createDatabase(t)
  await migrate(await connect(t, database), quiet)
  const setup = await connectAsAnother(t, database)
  await setup.query(`insert into chat_user (nickname, password_hash) values ('alice', 'x');
    insert into chat_message (user_id, text) select 1, 'many' from generate_series(1, 200000);
    insert into chat_message_key (user_id, key, message_id, digest) select 1, id, id, '' from chat_message; analyze`)
  let id = 0
  for (const sizes of [
    [1, 50_000, 1],
    [50_000, 1]
  ]) {
    const writer = await connectAsAnother(t, database)
    for (const size of sizes) {
      let took = Infinity
      for (let n = 0; n < (size === 1 ? 10 : 1); n++) {
        const started = performance.now()
        await writer.query('update chat_message set text = clock_timestamp() where id between $1 and $2', [
          id + 1,
          id + size
        ])
        await writer.query('delete from chat_message where id between $1 and $2', [id + 1, id + size])
        took = Math.min(took, performance.now() - started)
        id += size
      }
      t.ok(took < (size === 1 ? 50 : 20_000), `${size} of ${sizes.join(', then ')}: ${took.toFixed(1)} ms`)
    }
    await writer.end()
  }
})
