import t, { type Test } from 'tap'
import { type Service, startService } from '../helpers/app.ts'
import { connect } from '../helpers/database.ts'
import { waitUntil } from '../helpers/raw.ts'
import { openStream } from '../helpers/stream.ts'

const RFC_3339 = /^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])T([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d+)?Z$/

/**
 * What each row is, and the values of `id`, `text` and `created_at` in SQL. `seen` is what clients get of it,
 * if anything.
 */
const rows: {
  what: string
  id?: string
  text?: string
  createdAt?: string
  seen: { id?: number; createdAt?: string; text?: string } | undefined
}[] = [
  { what: 'infinity', createdAt: "'infinity'", seen: { createdAt: '9999-12-31T23:59:59.999Z' } },
  { what: '-infinity', createdAt: "'-infinity'", seen: { createdAt: '0001-01-01T00:00:00.000Z' } },
  {
    what: 'the last year that PostgreSQL has',
    createdAt: "'294276-12-31 23:59:59.999999+00'",
    seen: { createdAt: '9999-12-31T23:59:59.999Z' }
  },
  {
    what: 'a year of five digits',
    createdAt: "'10000-01-01 00:00:00+00'",
    seen: { createdAt: '9999-12-31T23:59:59.999Z' }
  },
  {
    what: 'the end of the last year of four digits',
    createdAt: "'9999-12-31 23:59:59.999999+00'",
    seen: { createdAt: '9999-12-31T23:59:59.999Z' }
  },
  {
    what: 'a year of two digits',
    createdAt: "'0099-03-01 12:00:00.123456+00'",
    seen: { createdAt: '0099-03-01T12:00:00.123Z' }
  },
  {
    what: 'before Christ',
    createdAt: "'0044-03-15 12:00:00+00 BC'",
    seen: { createdAt: '0001-01-01T00:00:00.000Z' }
  },
  {
    what: 'before 1970, between two milliseconds',
    createdAt: "'1969-12-31 23:59:59.9995+00'",
    seen: { createdAt: '1969-12-31T23:59:59.999Z' }
  },
  { what: 'an id beyond what JSON readers keep exact', id: '9007199254740993', seen: undefined },
  { what: 'the largest id', id: '9223372036854775807', seen: undefined },
  { what: 'the lowest id', id: '-9223372036854775808', seen: undefined },
  { what: 'a negative id', id: '-7', seen: { id: -7 } },
  { what: 'an empty text', text: "''", seen: { text: '' } },
  { what: 'a text of 40 MB', text: "repeat('x', 40000000)", seen: { text: `${'x'.repeat(4_000_000)}…` } },
  {
    what: 'a text of 40 MB in other letters',
    text: "repeat('ж', 20000000)",
    seen: { text: `${'ж'.repeat(4_000_000)}…` }
  },
  { what: 'a text of 100 kB', text: "repeat('x', 100000)", seen: { text: 'x'.repeat(100_000) } },
  {
    what: 'a text of control characters',
    text: "E'\\x01\\u0085\\uFEFF\\t'",
    seen: { text: '\u0001\u0085\uFEFF\t' }
  }
]

/** Holds the service to what it does on any day. @returns the messages of the newest page */
async function worksOn(t: Test, { call, url }: Service, token: string, what: string) {
  const stream = await openStream(t, url)
  const posted = await call('POST', '/api/messages', {
    token,
    body: { text: `after ${what}` },
    headers: { 'idempotency-key': 'after' }
  })
  t.equal(posted.status, 201, `${what}: a post is stored, and answered so`)
  const again = await call('POST', '/api/messages', {
    token,
    body: { text: `after ${what}` },
    headers: { 'idempotency-key': 'after' }
  })
  t.match({ status: again.status, id: again.body.id }, { status: 201, id: posted.body.id }, `${what}: once`)
  // The stream may have opened before this replica had read the odd row, whose event comes first then.
  await waitUntil(`${what}: the log is followed`, async () =>
    (await stream.events(1)).some(({ data }) => data.message?.id === posted.body.id)
  )
  stream.close()
  // Reading a huge row may take so long that the page is stale for a moment.
  await waitUntil(`${what}: the newest page is up to date`, async () => {
    const { status, headers } = await call('GET', '/api/messages')
    t.equal(status, 200, `${what}: the newest page is answered`)
    return !headers.has('age')
  })
  const { body } = await call('GET', '/api/messages')
  t.ok(
    body.some(({ id }: { id: number }) => id === posted.body.id),
    `${what}: the post is on it`
  )
  for (const { id, createdAt } of body) {
    t.match(createdAt, RFC_3339, `${what}: the times are RFC 3339`)
    t.ok(Number.isSafeInteger(id), `${what}: the ids are exact`)
  }
  return body
}

for (const { what, id, text = "'odd'", createdAt = 'now()', seen } of rows) {
  t.test(`a row with ${what} harms only itself, now and after a restart`, async (t) => {
    const first = await startService(t)
    const { token, userId } = await first.register()
    const stream = await openStream(t, first.url)
    const client = await connect(t, first.database)
    const columns = `${id === undefined ? '' : 'id, '}user_id, text, created_at`
    await client.query(
      `insert into chat_message (${columns}) values (${id === undefined ? '' : `${id}, `}${userId}, ${text}, ${createdAt})`
    )
    const newest = await worksOn(t, first, token, what)
    const [event] = await stream.events(1)
    // A huge message is on a page of its own.
    const { body: older } = await first.call('GET', `/api/messages?before_id=${newest[0].id}`)
    const found = [...older, ...newest].find(({ text }: { text: string }) => !text.startsWith('after '))
    t.strictSame(found !== undefined, seen !== undefined, 'it is in the list, or left out')
    if (seen) {
      t.ok(
        Object.entries(seen).every(
          ([name, value]) => found[name] === value && event?.data.message[name] === value
        ),
        'as the contract says'
      )
    }

    await client.query("update chat_message set text = text || '!' where text not like 'after %'")
    await client.query("delete from chat_message where text not like 'after %'")
    await client.query("delete from chat_message where text like 'after %'")
    await client.query(
      `insert into chat_message (${columns}) values (${id === undefined ? '' : `${id}, `}${userId}, ${text}, ${createdAt})`
    )
    const second = await startService(t, { POSTGRES_DB: first.database })
    await worksOn(t, second, token, `a restart with ${what}`)
    for (const cursor of ['after_id=0', 'after_id=-9007199254740991', 'before_id=9007199254740991']) {
      t.equal((await second.call('GET', `/api/messages?${cursor}`)).status, 200, cursor)
    }
  })
}

t.test('a row without a text or a time harms only itself', async (t) => {
  const { call, url, database, logs, register } = await startService(t)
  const { token, userId } = await register()
  const client = await connect(t, database)
  await client.query(
    'alter table chat_message alter text drop not null, alter created_at drop not null, alter user_id drop not null'
  )
  const stream = await openStream(t, url)
  for (const values of [`${userId}, null, now()`, `${userId}, 'timeless', null`, "null, 'nobody', now()"]) {
    await client.query(`insert into chat_message (user_id, text, created_at) values (${values})`)
  }
  const events = (await stream.events(2)).map(({ data }) => data.message)
  t.match(events, [{ text: '' }, { text: 'timeless', createdAt: '0001-01-01T00:00:00.000Z' }])
  const { body: reply } = await call('POST', '/api/messages', {
    token,
    body: { text: 'a reply', replyTo: events[0].id }
  })
  t.match(reply.replyTo, { id: events[0].id, userId, text: '' })
  t.strictSame((await call('GET', '/api/messages')).body, [...events, reply])
  t.equal(
    (await call('POST', `/api/messages/${events[0].id}/report`, { token, body: { reason: 'x' } })).status,
    204
  )
  await client.query("insert into chat_user_role (user_id, role) values ($1, 'moderator')", [userId])
  t.match((await call('GET', '/api/reports', { token })).body, [{ message: events[0] }])
  await waitUntil('messages after it are found', async () => {
    const { body } = await call('GET', '/api/search?q=reply')
    return body.length === 1
  })
  t.strictSame(
    logs.filter(({ msg }) => `${msg}`.startsWith('cannot')),
    []
  )

  const second = await startService(t, { POSTGRES_DB: database })
  t.strictSame(
    (await second.call('GET', '/api/messages')).body,
    [...events, reply],
    'after a restart as well'
  )
})
