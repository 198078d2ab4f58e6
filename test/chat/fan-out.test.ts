import { randomUUID } from 'node:crypto'
import t, { type Test } from 'tap'
import type { Posted } from '../../src/chat/writer.ts'
import { type Service, startService } from '../helpers/app.ts'
import { connect, createDatabase, openRedis } from '../helpers/database.ts'
import { waitUntil } from '../helpers/raw.ts'
import { announcersOf, relyOnOne } from '../helpers/replicas.ts'
import { openStream, type Stream } from '../helpers/stream.ts'

// Replicas of one room, of which one announces what is new, and all others rely on it.

const POSTGRES_DB = await createDatabase(t)
const services = [await startService(t, { POSTGRES_DB })]
services.push(...(await Promise.all([1, 2].map(() => startService(t, { POSTGRES_DB })))))
const [first, second, third] = services as [Service, Service, Service]
const { token, userId } = await first.register()
const other = await connect(t, POSTGRES_DB)
const insert = (text: string) =>
  `insert into chat_message (user_id, text, created_at) values (${userId}, '${text}', now())`

/** What `/metrics` says of one series. */
async function metric({ call }: Service, series: string): Promise<number> {
  const { body } = await call('GET', '/metrics')
  const line = String(body)
    .split('\n')
    .find((line) => line.startsWith(`${series} `))
  return Number(line?.slice(series.length))
}

interface Watched {
  streams: Stream[]
  since: number
}

/** Opens streams, for what happens from now on, once all replicas have everything so far. */
async function watch(t: Test, replicas = services): Promise<Watched> {
  await waitUntil('one replica announces to the others', () => relyOnOne(services))
  const { rows } = await other.query<{ since: number }>('select max(seq) as since from chat_event')
  const { since } = rows[0]!
  await waitUntil('all have everything', () => replicas.every(({ app }) => app.room.timeline.seq === since))
  const streams = await Promise.all(replicas.map(({ url }) => openStream(t, url, `?since=${since}`)))
  return { streams, since }
}

/**
 * Waits until each stream has told the whole log, nothing twice and all in order. What happened to a message
 * that was deleted soon after may be left out.
 */
async function haveAll(t: Test, { streams, since }: Watched): Promise<void> {
  const { rows } = await other.query<{ seq: number; isOvertaken: boolean }>(
    `select seq, kind <> 'message_deleted' and exists (
      select from chat_event later
      where later.seq > event.seq and later.kind = 'message_deleted' and later.message_id = event.message_id
    ) as "isOvertaken"
    from chat_event event where seq > $1 order by seq`,
    [since]
  )
  const overtaken = new Set(rows.filter(({ isOvertaken }) => isOvertaken).map(({ seq }) => seq))
  for (const stream of streams) {
    const told = async () => (await stream.events(0)).map(({ id }) => id)
    await waitUntil('a stream has everything', async () => (await told()).at(-1) === rows.at(-1)?.seq)
    const seqs = await told()
    const wanted = rows.map(({ seq }) => seq).filter((seq) => !overtaken.has(seq) || seqs.includes(seq))
    t.strictSame(seqs, wanted, 'every event, once, in order')
  }
}

async function showTheSame(t: Test): Promise<void> {
  const pages = await Promise.all(services.map(({ call }) => call('GET', '/api/messages?limit=200')))
  for (const { body } of pages) t.strictSame(body, pages[0]!.body, 'all show the same')
}

t.test('PostgreSQL notifies one replica, which announces to all others', async (t) => {
  const watched = await watch(t)
  const others = services.filter(({ app }) => !app.room.follower.isAnnouncer)
  const applied = (service: Service) => metric(service, 'chat_log_publications_total{outcome="applied"}')
  const before = await Promise.all(others.map(applied))
  t.equal(
    (await Promise.all(services.map((service) => metric(service, 'chat_log_announcer')))).join().match(/1/g)
      ?.length,
    1
  )

  const { id } = await second.post(token, 'by one replica')
  await third.post(token, 'by another')
  await other.query(insert('by SQL'))
  await other.query(`update chat_message set text = 'edited' where id = ${id}`)
  t.equal((await third.call('DELETE', `/api/messages/${id}`, { token })).status, 200)

  // A replica that writes also reads the log, so it may know everything before it is told.
  for (const [i, service] of others.entries()) {
    await waitUntil('each of the others is told', async () => {
      await other.query(insert('by SQL alone'))
      return (await applied(service)) > before[i]!
    })
  }
  await haveAll(t, watched)
  await showTheSame(t)
})

t.test('replicas that write at the same time take turns, so that posts share commits', async (t) => {
  const watched = await watch(t)
  const [writer, ...others] = services.map(({ app }) => app.room.writer)
  const say = (replica = writer) => replica!.post({ userId, text: 'in turns' })
  const commitOf = async ({ message }: Posted) => {
    const { rows } = await other.query('select xmin::text from chat_message where id = $1', [message.id])
    return rows[0].xmin
  }
  // On a busy machine the turns of the others may take longer than any replica waits.
  await waitUntil('a post waits for another one while the others have their turns', async () => {
    await Promise.all(others.map(say))
    await say()
    const early = say()
    await new Promise(setImmediate)
    const late = say()
    await say(others[0])
    return (await commitOf(await early)) === (await commitOf(await late))
  })
  await haveAll(t, watched)
})

t.test('an announcer loses its connection to PostgreSQL: one of them announces again', async (t) => {
  const watched = await watch(t)
  for (let round = 0; round < 3; round++) {
    await other.query(`select pg_terminate_backend(pid) from pg_stat_activity
      where datname = current_database() and application_name = 'chat-backend log'`)
    for (const { post } of services) await post(token, `in round ${round}`)
  }
  await haveAll(t, watched)
  await waitUntil('one of them announces again', () => relyOnOne(services))
})

t.test('publications may be lost, doubled, out of order or garbage', async (t) => {
  const watched = await watch(t)
  // Between each replica and Redis, as if Redis did it.
  const held: (() => void)[] = []
  let count = 0
  for (const { app } of services) {
    const publish = app.redis.publish.bind(app.redis)
    const send = (channel: string, text: string) => {
      publish(channel, text).catch(() => {})
    }
    const damaged = async (channel: string, text: string) => {
      // Other tests listen to the channel that is meant for other programs.
      if (!channel.startsWith('chat-backend:log:')) return publish(channel, text)
      const garbage = ['', '{}', text.slice(0, -2), text.replace(/"seq":\d+/g, '"seq":"x"')]
      const damages = [
        () => {}, // lost
        () => [text, text].forEach((again) => send(channel, again)),
        () => held.push(() => send(channel, text)),
        () => {
          send(channel, text)
          held.splice(0).forEach((late) => late())
        },
        () => [...garbage, text].forEach((part) => send(channel, part)),
        () => send(channel, text)
      ]
      damages[count++ % damages.length]!()
      return 1
    }
    Object.assign(app.redis, { publish: damaged })
    t.teardown(() => Reflect.deleteProperty(app.redis, 'publish'))
  }

  for (let round = 0; round < 10; round++) {
    const posted = await Promise.all(services.map(({ post }, i) => post(token, `${round} of ${i}`)))
    await other.query(`update chat_message set text = 'edited in ${round}' where id = ${posted[0]!.id}`)
    await other.query(insert(`by SQL in ${round}`))
    await first.call('DELETE', `/api/messages/${posted[1]!.id}`, { token })
  }
  await haveAll(t, watched)
  await showTheSame(t)
  const warnings = services.flatMap(({ logs }) =>
    logs.filter(({ msg }) => /forged publication/.test(`${msg}`))
  )
  t.ok(warnings.length > 0 && warnings.length <= services.length, 'the log of a replica says it once')
})

t.test('a publication that comes before its predecessor is kept until that has come', async (t) => {
  const watched = await watch(t)
  const gaps = async () => metric(third, 'chat_log_publications_total{outcome="gap"}')
  const before = await gaps()
  // Each message of one replica is held back until the next one of the other is on its way.
  let held = () => {}
  for (const { app } of [first, second]) {
    const publish = app.redis.publish.bind(app.redis)
    const swapped = async (channel: string, text: string) => {
      if (text.includes('"entries":[]')) return 1 // A heartbeat would make the others look.
      const late = held
      held = () => {}
      if (text.includes('the former')) {
        held = () => {
          publish(channel, text).catch(() => {})
        }
        return 1
      }
      const heard = await publish(channel, text)
      late()
      return heard
    }
    Object.assign(app.redis, { publish: swapped })
    t.teardown(() => Reflect.deleteProperty(app.redis, 'publish'))
  }
  for (let round = 0; round < 10; round++) {
    await Promise.all([
      first.post(token, `the former of ${round}`),
      second.post(token, `the latter of ${round}`)
    ])
  }
  held()
  await haveAll(t, watched)
  await showTheSame(t)
  t.equal(await gaps(), before, 'nothing had to be read again')
})

t.test('what other users of Redis publish is never shown', async (t) => {
  const watched = await watch(t)
  const redis = openRedis(t)
  const listener = redis.duplicate()
  t.teardown(() => listener.disconnect())
  const text = randomUUID()
  const heard = new Promise<{ channel: string; publication: string }>((resolve) => {
    listener.on('pmessage', (_pattern, channel: string, publication: string) => {
      if (publication.includes(text)) resolve({ channel, publication })
    })
  })
  await listener.psubscribe('chat-backend:log:*')
  await first.post(token, text)
  const { channel, publication } = await heard
  await Promise.all(services.map(({ app }) => app.room.follower.caughtUp()))

  const json = publication.slice(publication.indexOf('{'))
  const signature = publication.slice(0, -json.length)
  const genuine = JSON.parse(json)
  const entry = genuine.entries.at(-1)
  const id = entry.id + 1
  // It would continue the log of every replica.
  const forged = JSON.stringify({
    by: 'a stranger',
    from: { seq: entry.seq, mark: entry.mark },
    entries: [{ ...entry, seq: entry.seq + 1, id, message: { ...entry.message, id, text: 'forged' } }],
    hasNext: false
  })
  const fakes = [forged, signature + forged, `${'x'.repeat(signature.length)}${forged}`, signature, '']
  const invalid = (service: Service) => metric(service, 'chat_log_publications_total{outcome="invalid"}')
  const before = await Promise.all(services.map(invalid))
  for (const fake of [...fakes, publication, publication]) await redis.publish(channel, fake)
  for (const [i, service] of services.entries()) {
    await waitUntil(
      'each has refused them',
      async () => (await invalid(service)) >= before[i]! + fakes.length
    )
  }

  for (const { call } of services) {
    const { body } = await call('GET', '/api/messages?limit=1')
    t.equal(body[0].text, text)
  }
  await third.post(token, 'after that')
  await haveAll(t, watched)
})

t.test('all reload the room at once when a nickname changes', async (t) => {
  const watched = await watch(t)
  await other.query(`update chat_user set nickname = 'renamed' where id = ${userId}`)
  for (const stream of watched.streams) {
    await waitUntil('the stream says so', async () => (await stream.events(0)).at(-1)?.data.type === 'reset')
  }
  await showTheSame(t)
  const [{ body }, known] = [await third.call('GET', '/api/messages?limit=1'), await watch(t)]
  t.equal(body[0].nickname, 'renamed')
  await third.post(token, 'after that')
  await haveAll(t, known)
})

t.test('a message that is too long to be published reaches everybody', async (t) => {
  const watched = await watch(t)
  await other.query(
    `${insert('x')}, (${userId}, repeat('long', 3000000), now()), (${userId}, 'short', now())`
  )
  await haveAll(t, watched)
  for (const stream of watched.streams) {
    const lengths = (await stream.events(3)).map(({ data }) => data.message.text.length)
    t.strictSame(lengths, [1, 12_000_000, 5])
  }
})

t.test('another replica takes over from an announcer that is gone', async (t) => {
  const [gone] = announcersOf(services) as [Service]
  const left = services.filter((service) => service !== gone) as [Service, Service]
  const watched = await watch(t, left)
  await gone.app.close()
  await left[0].post(token, 'while nobody announces')
  await other.query(insert('by SQL meanwhile'))
  await haveAll(t, watched)
  await waitUntil('another one announces', () => relyOnOne(left))
  await left[1].post(token, 'while the other one does')
  await haveAll(t, watched)
})
