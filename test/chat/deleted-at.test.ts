import { randomInt } from 'node:crypto'
import t from 'tap'
import { startService } from '../helpers/app.ts'
import { connect, openRedis } from '../helpers/database.ts'
import { overtaker } from '../helpers/overtake.ts'
import { waitUntil } from '../helpers/raw.ts'
import { openStream } from '../helpers/stream.ts'

for (const when of ['before the service starts', 'while the service runs'] as const) {
  t.test(`deleted_at appears ${when}: a row that has it set is deleted for every reader`, async (t) => {
    const service = await startService(t)
    const { token, userId } = await service.register()
    const client = await connect(t, service.database)
    const texts = ['one', 'two', 'three', 'four']
    const ids: number[] = []
    for (const text of texts) ids.push((await service.post(token, text)).id)
    await client.query('alter table chat_message add column deleted_at timestamptz')
    await client.query('update chat_message set deleted_at = now() where id = $1', [ids[0]])
    const { call, url, post } =
      when === 'while the service runs' ? service : await startService(t, { POSTGRES_DB: service.database })
    const stream = await openStream(t, url)
    const shown = async (query = '') =>
      (await call('GET', `/api/messages${query}`)).body.map(({ text }: { text: string }) => text)
    const last = await post(token, 'five') // and with it, the log has been read so far
    for (const query of ['', '?after_id=0', `?before_id=${last.id + 1}`]) {
      t.strictSame(await shown(query), ['two', 'three', 'four', 'five'], query)
    }
    t.equal((await call('PATCH', `/api/messages/${ids[0]}`, { token, body: { text: 'no' } })).status, 404)
    t.equal((await call('DELETE', `/api/messages/${ids[0]}`, { token })).status, 404)

    t.equal((await call('DELETE', `/api/messages/${ids[1]}`, { token })).status, 200)
    t.equal((await call('DELETE', `/api/messages/${ids[1]}`, { token })).status, 404, 'once')
    t.match((await client.query('select text, deleted_at from chat_message where id = $1', [ids[1]])).rows, [
      { text: 'two', deleted_at: Date }
    ])
    await client.query('update chat_message set deleted_at = null where id = $1', [ids[0]])
    await client.query('update chat_message set deleted_at = now() where id = $1', [ids[2]])
    await client.query(
      "insert into chat_message (user_id, text, created_at, deleted_at) values ($1, 'history', now(), now())",
      [userId]
    )
    const { id } = await post(token, 'six')
    // The stream may have opened before this replica had read of the first deletion.
    const isAfterOpening = ({ data }: { data: { type: string; id?: number } }) =>
      data.type !== 'message_deleted' || data.id !== ids[0]
    await waitUntil('the last message is told', async () =>
      (await stream.events(5)).some(({ data }) => data.message?.id === id)
    )
    const events = (await stream.events(5))
      .filter(isAfterOpening)
      .map(({ data }) => `${data.type} ${data.message?.id ?? data.id}`)
    t.strictSame(events, [
      `message_created ${last.id}`,
      `message_deleted ${ids[1]}`,
      `message_created ${ids[0]}`,
      `message_deleted ${ids[2]}`,
      `message_created ${id}`
    ])
    t.strictSame(await shown(), ['one', 'four', 'five', 'six'])
    t.strictSame(await shown('?after_id=0'), ['one', 'four', 'five', 'six'])

    const keyed = () =>
      call('POST', '/api/messages', { token, body: { text: 'keyed' }, headers: { 'idempotency-key': 'key' } })
    const first = await keyed()
    await call('DELETE', `/api/messages/${first.body.id}`, { token })
    const second = await keyed()
    t.equal(second.status, 201)
    t.not(second.body.id, first.body.id, 'a key lives as long as its message')

    await client.query('alter table chat_message drop column deleted_at')
    t.equal((await call('DELETE', `/api/messages/${second.body.id}`, { token })).status, 200)
    t.equal(
      (await client.query('select from chat_message where id = $1', [second.body.id])).rowCount,
      0,
      'deleted as ever without the column'
    )
  })
}

t.test('nothing happens to a message that was deleted or given away while the request waited', async (t) => {
  const { call, register, post, database } = await startService(t)
  const [author, other] = [await register(), await register()]
  const client = await connect(t, database)
  await client.query('alter table chat_message add column deleted_at timestamptz')
  const overtake = await overtaker(t, database)
  const { token } = author
  for (const [change, value] of [
    ['deleted_at = $2', '2026-01-31T12:00:00Z'],
    ['user_id = $2', other.userId]
  ]) {
    for (const [method, body] of [['PATCH', { text: 'edited' }], ['DELETE']] as const) {
      const { id } = await post(token, 'hello')
      const update = `update chat_message set ${change} where id = $1`
      const answer = await overtake(update, [id, value], () =>
        call(method, `/api/messages/${id}`, { token, ...(body && { body }) })
      )
      t.match(answer, { status: 404, body: { code: 'message_not_found' } }, `${method} after ${change}`)
      const { rows } = await client.query(
        `select text, edited_at, ${change} as "isUnchanged" from chat_message
        left join chat_message_detail on message_id = id where id = $1`,
        [id, value]
      )
      t.strictSame(rows, [{ text: 'hello', edited_at: null, isUnchanged: true }])
    }
  }
})

t.test('a deletion is published for clients of the Go service', async (t) => {
  const { call, register, post, database } = await startService(t)
  const { token } = await register()
  const client = await connect(t, database)
  // All tests share one Redis, so these are ids that no other test has.
  await client.query(`alter table chat_message alter column id restart with ${randomInt(2 ** 30, 2 ** 45)}`)
  const [{ id: first }, { id: second }] = [await post(token, 'to be deleted'), await post(token, 'this too')]
  const redis = openRedis(t)
  const published: string[] = []
  redis.on('message', (_channel, text: string) => {
    if (text.includes(`${first}`) || text.includes(`${second}`)) published.push(text)
  })
  await redis.subscribe('chat:events')
  t.equal((await call('DELETE', `/api/messages/${second + 1}`, { token })).status, 404)
  for (const id of [first, second]) {
    t.equal((await call('DELETE', `/api/messages/${id}`, { token })).status, 200)
  }
  await waitUntil('both deletions are published', () => published.length >= 2)
  t.strictSame(published, [
    `{"type":"message_deleted","id":${first}}`,
    `{"type":"message_deleted","id":${second}}`
  ])
})
