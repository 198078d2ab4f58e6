import t, { type Test } from 'tap'
import { type Answer, type Service, startQuietService, startService } from '../helpers/app.ts'
import { admin, config, connect } from '../helpers/database.ts'
import { startProxy } from '../helpers/proxy.ts'
import { waitUntil } from '../helpers/raw.ts'
import { openStream } from '../helpers/stream.ts'

const followTo = ({ app }: Service, id: number) =>
  waitUntil('the replica has read the log', () => app.room.timeline.newestId === id, 60_000)

/**
 * Starts the service with a room of 1,500 messages.
 * @returns it, `statements`, which counts what it asks PostgreSQL, and `check`, which compares pages with SQL
 */
async function startRoom(t: Test) {
  const service = await startQuietService(t)
  const { app, call, register, database } = service
  const { userId, token } = await register()
  const client = await connect(t, database)
  await client.query(
    "insert into chat_message (user_id, text, created_at) select $1, 'message ' || n, now() from generate_series(1, 1500) n",
    [userId]
  )
  await followTo(service, 1500)
  let count = 0
  app.pg.pool.on('acquire', () => {
    count++
  })

  const check = async () => {
    const { rows } =
      await client.query(`select m.id, user_id as "userId", nickname, text, to_json(m.created_at)::text as at,
        to_char(detail.edited_at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as "editedAt"
      from chat_message m join chat_user u on u.id = user_id
      left join chat_message_detail detail on detail.message_id = m.id order by m.id`)
    const ids = rows.map(({ id }) => id)
    const newest = ids.at(-1)
    for (const [query, expected] of [
      ['', ids.slice(-50)],
      ['?limit=200', ids.slice(-200)],
      [`?after_id=${newest}`, []],
      [`?after_id=${newest - 300}&limit=70`, ids.filter((id) => id > newest - 300).slice(0, 70)],
      [`?before_id=${newest - 300}&limit=70`, ids.filter((id) => id < newest - 300).slice(-70)],
      ['?before_id=9000000', ids.slice(-50)]
    ] as [string, number[]][]) {
      const { body } = await call('GET', `/api/messages${query}`)
      t.strictSame(
        body.map(({ createdAt, ...message }: { createdAt: string }) => message),
        rows
          .filter(({ id }) => expected.includes(id))
          .map(({ at, editedAt, ...message }) => ({ ...message, ...(editedAt && { editedAt }) })),
        `${query} of ${ids.length}`
      )
    }
  }
  return { ...service, token, client, statements: () => count, check }
}

t.test('pages near the end are the same as those by SQL, and issue no SQL', async (t) => {
  const { check, statements } = await startRoom(t)
  await check()
  t.equal(statements(), 0)
})

t.test('an older page takes one statement', async (t) => {
  const { call, statements } = await startRoom(t)
  for (const [query, first] of [
    ['?before_id=60&limit=20', 40],
    ['?after_id=5&limit=20', 6],
    ['?after_id=0', 1],
    ['?before_id=1', undefined]
  ] as const) {
    const before = statements()
    const { body, headers } = await call('GET', `/api/messages${query}`)
    t.equal(body[0]?.id, first, query)
    t.equal(headers.get('x-event-cursor'), (await call('GET', '/api/messages')).headers.get('x-event-cursor'))
    t.equal(statements(), before + 1, query)
  }
})

t.test('pages are the same as those by SQL after any change', async (t) => {
  const { call, check, client, token } = await startRoom(t)
  for (const sql of [
    "update chat_message set text = 'я' || text where id % 7 = 0",
    'delete from chat_message where id % 5 = 0',
    "insert into chat_message (id, user_id, text, created_at) select n, (select min(id) from chat_user), 'late', now() from generate_series(1305, 1400, 5) n",
    "insert into chat_message (user_id, text, created_at) select min(id), 'more', now() from chat_user, generate_series(1, 700) group by generate_series"
  ]) {
    await client.query(sql)
    const { id } = (await call('POST', '/api/messages', { token, body: { text: 'and one' } })).body
    t.equal((await call('GET', '/api/messages?limit=1')).body[0].id, id)
    await check()
  }
})

t.test(
  'after most of the newest messages were deleted, the newest pages soon issue no SQL again',
  async (t) => {
    const { call, check, client, statements, token } = await startRoom(t)
    await client.query('delete from chat_message where id between 451 and 1490')
    await waitUntil('the newest page is in memory', async () => {
      const before = statements()
      const { body } = await call('GET', '/api/messages?limit=200')
      return body[0].id === 261 && statements() === before
    })
    await client.query("update chat_message set text = 'changed' where id = 300")
    await client.query('delete from chat_message where id = 301')
    await call('POST', '/api/messages', { token, body: { text: 'and one' } })
    const before = statements()
    await check()
    t.equal(statements(), before)
  }
)

t.test('a replica that is far behind starts over from the newest messages', async (t) => {
  const { call, client, url } = await startRoom(t)
  const stream = await openStream(t, url)
  await client.query(
    "insert into chat_message (user_id, text, created_at) select min(id), 'import', now() from chat_user, generate_series(1, 30000) group by generate_series"
  )
  await waitUntil('the newest message is read', async () => {
    const { body } = await call('GET', '/api/messages?limit=1')
    return body[0].id === 31_500
  })
  await waitUntil('it has come to the end', async () => {
    const { headers } = await call('GET', '/api/messages?limit=1')
    return (await stream.events(1)).at(-1)?.id === Number(headers.get('x-event-cursor'))
  })
  t.match((await stream.events(1)).at(-1), { data: { type: 'reset' } })
})

t.test('authors can read their own post immediately, on the same replica', async (t) => {
  const { call, register, post } = await startService(t)
  const users = await Promise.all(Array.from({ length: 10 }, register))
  await Promise.all(
    users.map(async ({ token }) => {
      for (let n = 0; n < 20; n++) {
        const { id } = await post(token, 'hello')
        const { body } = await call('GET', `/api/messages?after_id=${id - 1}&limit=1`)
        if (body[0]?.id !== id) t.fail(`${id} is not there`)
      }
    })
  )
  t.equal((await call('GET', '/api/messages?limit=200')).body.length, 200)
})

t.test(
  'without PostgreSQL the newest messages are served with their age, and older ones are 503',
  async (t) => {
    const proxy = await startProxy(t, config.POSTGRES_HOST!, config.POSTGRES_PORT)
    const { call, register, post, database } = await startService(t, {
      POSTGRES_HOST: '127.0.0.1',
      POSTGRES_PORT: proxy.port
    })
    const { token, userId } = await register()
    const client = await connect(t, database)
    await client.query(
      "insert into chat_message (user_id, text, created_at) select $1, 'message ' || n, now() from generate_series(1, 1500) n",
      [userId]
    )
    const last = await post(token, 'last')
    for (const failure of ['cut', 'freeze'] as const) {
      await proxy[failure]()
      let newest!: Answer
      const isStale = async () => {
        newest = await call('GET', '/api/messages?limit=1')
        return newest.headers.has('age')
      }
      await waitUntil('the newest page is stale', isStale)
      t.match(newest, { status: 200, body: [last] }, failure)
      t.match(newest.headers.get('age'), /^\d+$/)
      t.equal(newest.headers.get('x-stale'), 'true')
      const started = performance.now()
      t.match(await call('GET', `/api/messages?after_id=${last.id}`), { status: 200, body: [] })
      const one = await call('GET', `/api/messages/${last.id}`)
      t.match(one, { status: 200, body: last })
      t.ok(one.headers.has('age'))
      t.equal(one.headers.get('x-stale'), 'true')
      for (const path of ['?before_id=100', '/100', `/${last.id + 1}`]) {
        t.match(await call('GET', `/api/messages${path}`), {
          status: 503,
          body: { code: 'database_unavailable' }
        })
      }
      t.ok(performance.now() - started < 15_000, 'within 3 s each')
      await proxy.mend()
      await waitUntil('the newest page is fresh', async () => !(await isStale()))
      t.notOk(newest.headers.has('x-stale'))
      t.equal((await call('GET', '/api/messages?before_id=100')).status, 200, 'as before')
    }
  }
)

t.test('a server that was read-only from the start serves pages, with an age in whole seconds', async (t) => {
  const first = await startService(t)
  const { database } = first
  const { token } = await first.register()
  const posted = await first.post(token, 'before')
  await first.app.close()
  await admin(`alter database ${database} set default_transaction_read_only = on`)
  const { call } = await startService(t, { POSTGRES_DB: database, MIGRATE: 'off' })
  for (const path of ['', `?before_id=${posted.id + 1}`]) {
    const { status, headers, body } = await call('GET', `/api/messages${path}`)
    t.match({ status, body }, { status: 200, body: [posted] }, path)
    t.match(headers.get('age'), /^\d+$/)
    t.equal(headers.get('x-stale'), 'true')
  }
})

t.test('one message is read from memory or by SQL, until it is deleted', async (t) => {
  const service = await startQuietService(t)
  const { app, call, register, post, database } = service
  const { userId, token } = await register()
  const client = await connect(t, database)
  await client.query(
    "insert into chat_message (user_id, text, created_at) select $1, 'message ' || n, now() from generate_series(1, 1500) n",
    [userId]
  )
  const last = await post(token, 'Ünïcode 👋')
  const read = (id: number | string) => call('GET', `/api/messages/${id}`)
  let statements = 0
  app.pg.pool.on('acquire', () => {
    statements++
  })

  t.match(await read(last.id), { status: 200, body: last })
  t.match(await read(last.id - 1), { status: 200, body: { id: 1500, text: 'message 1500', userId } })
  t.match(await read(last.id + 1), { status: 404, body: { code: 'message_not_found' } })
  t.equal(statements, 0, 'what is near the end is in memory')
  const old = await read(3)
  t.match(old, { status: 200, body: { id: 3, text: 'message 3', userId } })
  t.equal(old.headers.get('content-type'), 'application/json; charset=utf-8')
  t.equal(statements, 1)
  for (const id of [0, '99999999999999999999999']) {
    t.match(await read(id), { status: 404, body: { code: 'message_not_found' } })
  }
  for (const id of ['x', '-1', '1.5']) t.match(await read(id), { status: 404, body: { code: 'not_found' } })

  await client.query("update chat_message set text = 'changed' where id in (3, 1500)")
  await client.query('delete from chat_message where id in (4, 1499)')
  await post(token, 'and the log was read')
  for (const id of [3, 1500]) t.match((await read(id)).body, { id, text: 'changed' })
  for (const id of [4, 1499]) t.equal((await read(id)).status, 404)
  await client.query('alter table chat_message add column deleted_at timestamptz')
  await client.query('update chat_message set deleted_at = now() where id in (3, 1500)')
  await post(token, 'and again')
  for (const id of [3, 1500]) t.equal((await read(id)).status, 404)
})

t.test('while the log cannot be followed, pages come from SQL', async (t) => {
  const { call, register, post, database, logs } = await startService(t)
  const { token } = await register()
  await post(token, 'before')
  const client = await connect(t, database)
  await client.query('alter table chat_event rename column kind to other')
  await client.query("notify chat_event, '1000000'") // so that the replica reads the log
  await waitUntil('the replica has noticed', () =>
    logs.some(({ msg }) => /cannot follow the event log: .*kind/.test(`${msg}`))
  )
  await client.query(
    "alter table chat_message disable trigger all; insert into chat_message (user_id, text, created_at) select id, 'by SQL', now() from chat_user"
  )
  const { body, headers } = await call('GET', '/api/messages')
  t.match(body, [{ text: 'before' }, { text: 'by SQL' }])
  t.notOk(headers.has('age'))
  await client.query('alter table chat_event rename column other to kind')
  await waitUntil('it is followed again', () =>
    logs.some(({ msg }) => `${msg}`.includes('following the event log again'))
  )
})

t.test('a page of huge messages is cut, and a reader who continues misses none', async (t) => {
  const service = await startService(t)
  const { call, register, database, app } = service
  const { userId } = await register()
  const client = await connect(t, database)
  const insert =
    "insert into chat_message (user_id, text, created_at) select $1, repeat('x', n * 1000), now() from unnest($2::int[]) n"
  const sizes = Array.from({ length: 60 }, (_, i) => (i % 20 === 7 ? 9000 : 700) + i)
  await client.query(insert, [userId, sizes])
  await followTo(service, 60)
  const lengths = (body: { text: string }[]) => body.map(({ text }) => text.length / 1000)

  for (const limit of [200, 30]) {
    const forward: number[] = []
    for (let after = 0; ;) {
      const { body } = await call('GET', `/api/messages?limit=${limit}&after_id=${after}`)
      if (body.length === 0) break
      forward.push(...lengths(body))
      after = body.at(-1).id
    }
    t.strictSame(forward, sizes, 'forwards')

    const backward: number[] = []
    let { body } = await call('GET', `/api/messages?limit=${limit}`)
    while (body.length > 0) {
      t.ok(body.length === 1 || JSON.stringify(body).length < 5_000_000, 'none is larger than needed')
      backward.unshift(...lengths(body))
      body = (await call('GET', `/api/messages?limit=${limit}&before_id=${body[0].id}`)).body
    }
    t.strictSame(backward, sizes, 'backwards')
  }
  t.ok(app.room.timeline.page({ limit: 5 }), 'the newest are in memory all the same')
})
