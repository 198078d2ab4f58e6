import t from 'tap'
import { type Service, startService } from '../helpers/app.ts'
import { connect } from '../helpers/database.ts'
import { startModerated } from '../helpers/people.ts'
import { waitUntil } from '../helpers/raw.ts'

// A client whose change was acknowledged sees it at the same replica, even if the triggers of the log were
// dropped a moment ago and this replica has not noticed yet.

type Room = Awaited<ReturnType<typeof startModerated>>
interface Given {
  other: Service
  author: { userId: number; token: string }
  moderator: { token: string }
  ids: number[]
}

const texts = async ({ call }: Pick<Service, 'call'>) =>
  (await call('GET', '/api/messages')).body.map(({ text }: { text: string }) => text)

const changes: {
  what: string
  sabotage: string
  change: (room: Room, given: Given) => Promise<number>
  expected: string[]
}[] = [
  {
    what: 'a post that another replica has stored before',
    sabotage: 'drop trigger chat_event_created on chat_message',
    change: async ({ call }, { other, author: { token } }) => {
      const request = { token, headers: { 'idempotency-key': 'once' }, body: { text: 'posted' } }
      await other.call('POST', '/api/messages', request)
      const { status, headers } = await call('POST', '/api/messages', request)
      return headers.get('idempotency-replayed') === 'true' ? status : NaN
    },
    expected: ['first', 'second', 'posted']
  },
  {
    what: 'an edit',
    sabotage: 'alter table chat_message disable trigger chat_event_updated',
    change: async ({ call }, { author: { token }, ids }) =>
      (await call('PATCH', `/api/messages/${ids[1]}`, { token, body: { text: 'edited' } })).status,
    expected: ['first', 'edited']
  },
  {
    what: 'a deletion',
    sabotage: 'drop trigger chat_event_deleted on chat_message',
    change: async ({ call }, { author: { token }, ids }) =>
      (await call('DELETE', `/api/messages/${ids[1]}`, { token })).status,
    expected: ['first']
  },
  {
    what: 'the deletion of all messages of a user',
    sabotage: 'alter table chat_message disable trigger user',
    change: async ({ call }, { author: { userId }, moderator: { token } }) =>
      (await call('DELETE', `/api/users/${userId}/messages`, { token })).status,
    expected: []
  },
  {
    what: 'the deletion of an account',
    sabotage: 'alter table chat_message disable trigger all',
    change: async ({ call }, { author: { token } }) =>
      (await call('DELETE', '/api/me', { token, body: { password: 'correct horse' } })).status,
    expected: []
  }
]

for (const { what, sabotage, change, expected } of changes) {
  t.test(`${what} is seen once it is acknowledged, although it did not reach the log`, async (t) => {
    const room = await startModerated(t)
    const other = await startService(t, { POSTGRES_DB: room.database })
    const [author, moderator] = [await room.register(), await room.registerAs('moderator')]
    const posted = [await room.post(author.token, 'first'), await room.post(author.token, 'second')]
    t.strictSame(await texts(room), ['first', 'second'])

    await room.client.query(sabotage)
    const status = await change(room, { other, author, moderator, ids: posted.map(({ id }) => id) })
    t.equal(Math.floor(status / 100), 2)
    t.strictSame(await texts(room), expected)
    const isReported = room.logs.some(({ msg }) => `${msg}`.startsWith('the event log is incomplete: '))
    t.ok(isReported, 'and its log says what is wrong')
  })
}

t.test(
  'a post that did not reach the log is seen once it is acknowledged, even right after a change that did',
  async (t) => {
    const service = await startService(t)
    const client = await connect(t, service.database)
    const { token } = await service.register()
    const { id } = await service.post(token, 'first')
    await client.query('alter table chat_message disable trigger chat_event_created')

    await client.query('begin')
    await client.query('select pg_advisory_xact_lock(7243002)')
    await client.query("insert into chat_event (kind, message_id) values ('message_updated', $1)", [id])
    const posted = service.post(token, 'second')
    await waitUntil('the post waits for the lock of the room', async () => {
      const { rowCount } = await client.query(
        `select from pg_locks lock join pg_database on pg_database.oid = lock.database
        where datname = current_database() and locktype = 'advisory' and not granted`
      )
      return rowCount === 1
    })
    await client.query('commit')
    await posted
    t.strictSame(await texts(service), ['first', 'second'])
  }
)

t.test('messages that others change at the same time are not reported', async (t) => {
  const { register, post, call, logs, database } = await startService(t)
  const other = await startService(t, { POSTGRES_DB: database })
  const { token } = await register()
  for (let round = 0; round < 10; round++) {
    const { id } = await post(token, 'written')
    const path = `/api/messages/${id}`
    const edits = [1, 2, 3, 4, 5, 6].map((n) => {
      const { call: edit } = n % 2 ? other : { call }
      return edit('PATCH', path, { token, body: { text: `edit ${n}` } })
    })
    t.ok((await Promise.all(edits)).every(({ status }) => status === 200))
    await Promise.all([
      call('DELETE', path, { token }),
      other.call('PATCH', path, { token, body: { text: 'late' } })
    ])
  }
  t.strictSame(
    [...logs, ...other.logs].filter(({ level }) => Number(level) >= 50),
    []
  )
})

t.test('after a repair, a replica counts as complete only when it has read that', async (t) => {
  const service = await startService(t)
  const { watch, follower } = service.app.room
  const client = await connect(t, service.database)
  const { token } = await service.register()
  const isReady = async () => (await service.call('GET', '/health/readyz')).status === 200
  let [isRepaired, read] = [false, () => {}]
  const held = new Promise<void>((resolve) => {
    read = resolve
  })
  watch.onRepaired = async () => {
    isRepaired = true
    await held
    await follower.caughtUp()
  }

  await client.query('alter table chat_message disable trigger user')
  await waitUntil('it knows what is wrong', async () => !(await isReady()))
  await service.post(token, 'unheard')
  await client.query('alter table chat_message enable trigger user')
  await waitUntil('the log is repaired', () => isRepaired)
  t.match(watch.problem, 'is disabled')
  t.strictSame(await texts(service), ['unheard'])

  read()
  await waitUntil('it is ready', isReady)
  t.strictSame(await texts(service), ['unheard'])
})
