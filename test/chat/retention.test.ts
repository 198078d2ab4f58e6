import t from 'tap'
import { trim } from '../../src/chat/retention.ts'
import { createQuery } from '../../src/database/query.ts'
import { startService } from '../helpers/app.ts'
import { connect } from '../helpers/database.ts'
import { openStream } from '../helpers/stream.ts'

t.test('what is older than the configuration keeps is deleted, and the streams are told', async (t) => {
  const { call, register, database, url } = await startService(t)
  const { userId } = await register()
  const client = await connect(t, database)
  await client.query("insert into chat_message (user_id, text, created_at) select $1, 'old', now() - interval '31 days' from generate_series(1, 2500)", [userId])
  await client.query("insert into chat_message (user_id, text, created_at) select $1, 'kept', now() - interval '29 days' from generate_series(1, 3)", [userId])
  await call('GET', '/api/messages?after_id=2502&wait=10')
  const stream = await openStream(t, url)

  const query = createQuery(client)
  await trim(query, { EVENT_RETENTION_HOURS: 72 })
  t.equal((await client.query('select from chat_message')).rowCount, 2503, 'kept for ever, unless told otherwise')
  await trim(query, { RETENTION_DAYS: 30, EVENT_RETENTION_HOURS: 72 })
  t.match(await call('GET', '/api/messages?after_id=0'), { status: 200, body: [{ text: 'kept' }, { text: 'kept' }, { text: 'kept' }] })
  const events = await stream.events(2500)
  t.equal(new Set(events.filter(({ data }) => data.type === 'message_deleted').map(({ data }) => data.id)).size, 2500)

  await client.query("update chat_event set created_at = now() - interval '73 hours'")
  await trim(query, { EVENT_RETENTION_HOURS: 72 })
  t.strictSame((await client.query('select seq from chat_event')).rows, [{ seq: events.at(-1)?.id }], 'the newest entry stays')
  t.match((await (await openStream(t, url, `?since=${events[0]!.id}`)).events(1))[0]?.data.type, /message_deleted|reset/)
})

t.test('one replica at a time does it', async (t) => {
  const { database } = await startService(t)
  const [first, second] = [await connect(t, database), await connect(t, database)]
  await first.query("insert into chat_event (kind, created_at) select 'reset', now() - interval '73 hours' from generate_series(1, 10)")
  await first.query('begin; select pg_advisory_xact_lock(7243003)')
  await trim(createQuery(second), { EVENT_RETENTION_HOURS: 72 })
  t.ok((await first.query('select from chat_event')).rowCount! >= 11)
  await first.query('commit')
  await trim(createQuery(second), { EVENT_RETENTION_HOURS: 72 })
  t.ok((await first.query('select from chat_event')).rowCount! <= 2)
})
