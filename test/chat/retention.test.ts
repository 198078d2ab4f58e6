import t from 'tap'
import { Retention } from '../../src/chat/retention.ts'
import { createQuery } from '../../src/database/query.ts'
import { startService } from '../helpers/app.ts'
import { connect } from '../helpers/database.ts'
import { overtaker } from '../helpers/overtake.ts'
import { waitUntil } from '../helpers/raw.ts'
import { openStream } from '../helpers/stream.ts'
import { quiet } from '../helpers/quiet.ts'

t.test('messages older than RETENTION_DAYS are deleted, and streams get the deletions', async (t) => {
  const { app, call, register, database, url } = await startService(t)
  const { userId } = await register()
  const client = await connect(t, database)
  await client.query(
    "insert into chat_message (user_id, text, created_at) select $1, 'old', now() - interval '31 days' from generate_series(1, 2500)",
    [userId]
  )
  await client.query(
    "insert into chat_message (user_id, text, created_at) select $1, 'kept', now() - interval '29 days' from generate_series(1, 3)",
    [userId]
  )
  await waitUntil('the replica has read the log', () => app.room.timeline.newestId === 2503, 60_000)
  const stream = await openStream(t, url)

  const query = createQuery(client)
  await new Retention(query, { EVENT_RETENTION_HOURS: 72 }, quiet).trim()
  t.equal(
    (await client.query('select from chat_message')).rowCount,
    2503,
    'kept for ever, unless told otherwise'
  )
  await new Retention(query, { RETENTION_DAYS: 30, EVENT_RETENTION_HOURS: 72 }, quiet).trim()
  t.match(await call('GET', '/api/messages?after_id=0'), {
    status: 200,
    body: [{ text: 'kept' }, { text: 'kept' }, { text: 'kept' }]
  })
  const events = await stream.events(2500)
  t.equal(
    new Set(events.filter(({ data }) => data.type === 'message_deleted').map(({ data }) => data.id)).size,
    2500
  )

  await client.query("update chat_event set created_at = now() - interval '73 hours'")
  await new Retention(query, { EVENT_RETENTION_HOURS: 72 }, quiet).trim()
  t.strictSame(
    (await client.query('select seq from chat_event')).rows,
    [{ seq: events.at(-1)?.id }],
    'the newest entry stays'
  )
  t.match(
    (await (await openStream(t, url, `?since=${events[0]!.id}`)).events(1))[0]?.data.type,
    /message_deleted|reset/
  )
})

t.test('retention: only one replica trims at a time', async (t) => {
  const { database } = await startService(t)
  const [first, second] = [await connect(t, database), await connect(t, database)]
  await first.query(
    "insert into chat_event (kind, created_at) select 'reset', now() - interval '73 hours' from generate_series(1, 10)"
  )
  await first.query('begin; select pg_advisory_xact_lock(7243003)')
  await new Retention(createQuery(second), { EVENT_RETENTION_HOURS: 72 }, quiet).trim()
  t.ok((await first.query('select from chat_event')).rowCount! >= 11)
  await first.query('commit')
  await new Retention(createQuery(second), { EVENT_RETENTION_HOURS: 72 }, quiet).trim()
  t.ok((await first.query('select from chat_event')).rowCount! <= 2)
})

t.test('a message that gets a younger date while retention waits is kept', async (t) => {
  const { call, register, database } = await startService(t)
  const { userId } = await register()
  const client = await connect(t, database)
  await client.query(
    `insert into chat_message (user_id, text, created_at) values
    ($1, 'old', now() - interval '31 days'), ($1, 'dated anew', now() - interval '31 days')`,
    [userId]
  )
  const overtake = await overtaker(t, database)
  const retention = new Retention(
    createQuery(client),
    { RETENTION_DAYS: 30, EVENT_RETENTION_HOURS: 72 },
    quiet
  )
  await overtake('update chat_message set created_at = now() where text = $1', ['dated anew'], () =>
    retention.trim()
  )
  t.match((await call('GET', '/api/messages/2')).body, { text: 'dated anew' })
  t.equal((await client.query('select from chat_message')).rowCount, 1)
})

t.test('messages dated in the future are kept and reported, even at the lowest ids', async (t) => {
  const { register, database } = await startService(t)
  const { userId } = await register()
  const client = await connect(t, database)
  const insert = (text: string, createdAt: string, count: number) =>
    client.query(
      'insert into chat_message (user_id, text, created_at) select $1, $2, $3 from generate_series(1, $4::int)',
      [userId, text, createdAt, count]
    )
  await insert('future', '2999-01-01T00:00:00Z', 1500)
  await insert('never', 'infinity', 500)
  await insert('young', new Date().toISOString(), 2500)
  await insert('old', '2001-01-01T00:00:00Z', 2500)
  await insert('older than all', '-infinity', 1)
  await insert('young', new Date().toISOString(), 10)
  await client.query(
    "insert into chat_message (id, user_id, text, created_at) values (-5, $1, 'old', '2001-01-01T00:00:00Z')",
    [userId]
  )
  await client.query(
    "insert into chat_message (id, user_id, text, created_at) values (9223372036854775806, $1, 'old', '2001-01-01T00:00:00Z')",
    [userId]
  )
  const warnings: string[] = []
  const log = {
    ...quiet,
    warn: (message: string) => {
      warnings.push(message)
    }
  }
  const retention = new Retention(createQuery(client), { RETENTION_DAYS: 30, EVENT_RETENTION_HOURS: 72 }, log)
  await retention.trim()
  await retention.trim()
  const { rows } = await client.query(
    'select text, count(*)::int from chat_message group by text order by text'
  )
  t.strictSame(rows, [
    { text: 'future', count: 1500 },
    { text: 'never', count: 500 },
    { text: 'young', count: 2510 }
  ])
  t.strictSame(
    warnings,
    ['retention keeps at least 2000 messages that are dated more than a day in the future'],
    'once'
  )
})

t.test('retention: one run does a bounded amount of work, and the next continues', async (t) => {
  const { register, database } = await startService(t)
  const { userId } = await register()
  const client = await connect(t, database)
  await client.query(
    "insert into chat_message (user_id, text, created_at) select $1, 'future', 'infinity' from generate_series(1, 12000)",
    [userId]
  )
  await client.query(
    "insert into chat_message (user_id, text, created_at) select $1, 'old', '2001-01-01T00:00:00Z' from generate_series(1, 10)",
    [userId]
  )
  const retention = new Retention(
    createQuery(client),
    { RETENTION_DAYS: 30, EVENT_RETENTION_HOURS: 72 },
    quiet
  )
  const old = async () => (await client.query("select from chat_message where text = 'old'")).rowCount
  await retention.trim()
  t.equal(await old(), 10)
  for (let n = 0; n < 3; n++) await retention.trim()
  t.equal(await old(), 0)
})

t.test(
  'log entries with times in the future do not keep older ones after them, nor leave a gap',
  async (t) => {
    const { database } = await startService(t)
    const client = await connect(t, database)
    await client.query(
      "insert into chat_event (kind, created_at) select 'reset', '2999-01-01T00:00:00Z' from generate_series(1, 1500)"
    )
    await client.query(
      "insert into chat_event (kind, created_at) select 'reset', now() - interval '73 hours' from generate_series(1, 1500)"
    )
    await client.query(
      "insert into chat_event (kind, created_at) select 'reset', now() from generate_series(1, 5)"
    )
    await new Retention(createQuery(client), { EVENT_RETENTION_HOURS: 72 }, quiet).trim()
    t.equal((await client.query('select from chat_event')).rowCount, 5)
  }
)

t.test('the moderation log is kept as long as the messages', async (t) => {
  const { register, post, database } = await startService(t)
  const client = await connect(t, database)
  const [alice, bob, carol] = [await register(), await register(), await register()]
  const { id } = await post(alice.token, 'hello')
  await client.query(
    `insert into chat_moderation_log (action, reason, created_at)
    select 'ban', case when n <= 1500 then 'old' else 'kept' end,
      now() - case when n <= 1500 then interval '31 days' else interval '29 days' end
    from generate_series(1, 1502) n`
  )
  await client.query(
    `insert into chat_report (message_id, user_id, reason, created_at, closed_at) values
    ($1, $2, 'old and dealt with', now() - interval '31 days', now() - interval '30 days'),
    ($1, $3, 'old and open', now() - interval '31 days', null),
    ($1, $4, 'dealt with', now() - interval '29 days', now()),
    (-1, $2, 'old, of a message that is gone', now() - interval '31 days', null)`,
    [id, alice.userId, bob.userId, carol.userId]
  )
  await client.query(
    `insert into chat_restriction (user_id, kind, until, created_at) values
    ($1, 'ban', now() - interval '31 days', now() - interval '40 days'),
    ($2, 'mute', now() - interval '29 days', now() - interval '40 days'),
    ($3, 'ban', null, now() - interval '400 days')`,
    [alice.userId, bob.userId, carol.userId]
  )
  const left = async (sql: string) => (await client.query(sql)).rows.map((row) => Object.values(row)[0])
  const read = async () => ({
    log: await left('select distinct reason from chat_moderation_log order by 1'),
    reports: await left('select reason from chat_report order by reason'),
    restricted: await left('select user_id from chat_restriction order by id')
  })

  const query = createQuery(client)
  const before = await read()
  await new Retention(query, { EVENT_RETENTION_HOURS: 72 }, quiet).trim()
  t.strictSame(await read(), before, 'for ever, unless told otherwise')
  await new Retention(query, { RETENTION_DAYS: 30, EVENT_RETENTION_HOURS: 72 }, quiet).trim()
  t.strictSame(await read(), {
    log: ['kept'],
    reports: ['dealt with', 'old and open'],
    restricted: [bob.userId, carol.userId]
  })
})
