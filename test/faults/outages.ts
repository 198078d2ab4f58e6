import { readFileSync } from 'node:fs'
import type pg from 'pg'
import t from 'tap'
import { type Answer, startService } from '../helpers/app.ts'
import { folder } from '../helpers/server.ts'
import { waitUntil } from '../helpers/raw.ts'
import { openStream } from '../helpers/stream.ts'
import { type Postgres, type Sessions, startDatabase, startSessions } from '../proof/cluster.ts'

// The table in docs/outages.md is the expectation: a row is a fault, a column a request, and a cell the
// status of the response, or either of two.
const lines = readFileSync(new URL('../../docs/outages.md', import.meta.url), 'utf8').split('\n')
const cells = (line: string) =>
  line
    .split('|')
    .slice(1, -1)
    .map((cell) => cell.trim())
const start = lines.findIndex((line) => line.startsWith('| while | livez |'))
const requests = cells(lines[start] ?? '').slice(1)
const table = new Map(
  lines
    .slice(start + 2, lines.indexOf('', start))
    .map(cells)
    .map(([fault = '', ...answers]) => [fault, answers])
)

const ANSWER_MS = 3000
const RECOVERY_MS = 2000
const WAIT_SECONDS = 1

/** Puts an engine out of order. @returns what is to be awaited for it to be back */
type Fault = (engines: { postgres: Postgres; redis: Sessions }) => Promise<() => unknown>

/** Takes every connection that the server gives, and holds them. */
async function fill(postgres: Postgres): Promise<() => Promise<unknown>> {
  const clients: pg.Client[] = []
  const admin = await postgres.connect()
  const {
    rows: [{ most }]
  } = await admin.query("select current_setting('max_connections')::int as most")
  while (clients.length + 1 < most) {
    // The service connects again meanwhile, and nobody sees that before it has.
    await admin.query(
      "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'chat-backend%'"
    )
    for (let isFull = false; !isFull;) {
      await postgres.connect().then(
        (client) => clients.push(client),
        () => {
          isFull = true
        }
      )
    }
  }
  return () => Promise.all([admin, ...clients].map((client) => client.end()))
}

const setReadOnly = async (postgres: Postgres, value: 'on' | 'off') => {
  const admin = await postgres.connect()
  await admin.query('set default_transaction_read_only = off')
  await admin.query(`alter system set default_transaction_read_only = ${value}`)
  await admin.query('select pg_reload_conf()')
  await admin.end()
}

const faults: Record<string, Fault> = {
  'PostgreSQL is down': async ({ postgres }) => {
    await postgres.down()
    return postgres.up
  },
  'PostgreSQL restarts': async ({ postgres }) => {
    const restarted = postgres.down('SIGQUIT').then(postgres.up)
    return () => restarted
  },
  'PostgreSQL hangs': async ({ postgres }) => {
    await postgres.freeze()
    return postgres.thaw
  },
  'PostgreSQL is full': ({ postgres }) => fill(postgres),
  'PostgreSQL is read-only': async ({ postgres }) => {
    await setReadOnly(postgres, 'on')
    return () => setReadOnly(postgres, 'off')
  },
  'the log cannot be followed': async ({ postgres }) => {
    const admin = await postgres.connect()
    await admin.query(`
      create function refuse() returns event_trigger language plpgsql as $$
      begin
        if current_setting('application_name') = 'chat-backend log' then raise 'not you'; end if;
      end $$;
      create event trigger refuse on login execute function refuse()`)
    const followers = "from pg_stat_activity where application_name = 'chat-backend log'"
    await admin.query(`select pg_terminate_backend(pid) ${followers}`)
    await waitUntil('the follower has lost its connection', async () => {
      return (await admin.query(`select ${followers}`)).rowCount === 0
    })
    return async () => {
      await admin.query('drop event trigger refuse')
      await admin.end()
    }
  },
  'Redis is down': async ({ redis }) => {
    await redis.down()
    return redis.up
  },
  'Redis restarts': async ({ redis }) => {
    const restarted = redis.down().then(redis.up)
    return () => restarted
  },
  'Redis hangs': async ({ redis }) => {
    await redis.freeze()
    return redis.thaw
  },
  'Redis is a replica': async ({ redis }) => {
    await redis.call('replicaof', '127.0.0.1', '9')
    return () => redis.call('replicaof', 'no', 'one')
  },
  'Redis is full': async ({ redis }) => {
    await redis.call('config', 'set', 'maxmemory', '1')
    return () => redis.call('config', 'set', 'maxmemory', '0')
  },
  'Redis misses its replicas': async ({ redis }) => {
    await redis.call('config', 'set', 'min-replicas-to-write', '1')
    return () => redis.call('config', 'set', 'min-replicas-to-write', '0')
  },
  'Redis was flushed': async ({ redis }) => {
    await redis.flush()
    return async () => {}
  }
}

t.strictSame(
  [...table.keys()].sort(),
  Object.keys(faults).sort(),
  'every row has its fault, and the other way round'
)

t.jobs = 1
for (const [name, expected] of table) {
  t.test(name, { buffered: true }, async (t) => {
    const dataDir = folder(t)
    const engines = { postgres: await startDatabase(dataDir), redis: await startSessions(dataDir) }
    t.teardown(() => Promise.all([engines.postgres.down('SIGQUIT'), engines.redis.down('SIGQUIT')]))
    const {
      POSTGRES_PORT,
      POSTGRES_USER = '',
      POSTGRES_PASSWORD = '',
      POSTGRES_DB = '',
      REDIS_PORT,
      REDIS_PASSWORD
    } = { ...engines.postgres.env, ...engines.redis.env }
    const { call, register, post, url } = await startService(t, {
      POSTGRES_HOST: '127.0.0.1',
      POSTGRES_PORT: Number(POSTGRES_PORT),
      POSTGRES_USER,
      POSTGRES_PASSWORD,
      POSTGRES_DB,
      REDIS_HOST: '127.0.0.1',
      REDIS_PORT: Number(REDIS_PORT),
      REDIS_DB: 0,
      ...(REDIS_PASSWORD && { REDIS_PASSWORD })
    })
    const { token, nickname, userId } = await register()
    const other = await register()
    const client = await engines.postgres.connect()
    await client.query(
      "insert into chat_message (user_id, text, created_at) select $1, 'message ' || n, now() from generate_series(1, 1500) n",
      [userId]
    )
    await client.end()
    const newest = await post(token, 'newest')
    let count = 0
    const stream = await openStream(t, url)

    const ask: Record<string, () => Promise<Pick<Answer, 'status'> & Partial<Answer>>> = {
      livez: () => call('GET', '/health/livez'),
      readyz: () => call('GET', '/health/readyz'),
      'readyz for reads': () => call('GET', '/health/readyz?for=reads'),
      register: () =>
        call('POST', '/api/register', { body: { nickname: `new ${++count}`, password: 'correct horse' } }),
      login: () => call('POST', '/api/login', { body: { nickname, password: 'correct horse' } }),
      logout: () => call('POST', '/api/logout', { token: other.token }),
      newest: () => call('GET', '/api/messages'),
      older: () => call('GET', '/api/messages?before_id=100'),
      wait: () => call('GET', `/api/messages?after_id=${newest.id + 1_000_000}&wait=${WAIT_SECONDS}`),
      post: () => call('POST', '/api/messages', { token, body: { text: 'posted' } }),
      edit: () =>
        call('PATCH', `/api/messages/${newest.id - 1}`, { token, body: { text: `edited ${++count}` } }),
      delete: () => call('DELETE', `/api/messages/${newest.id - 100 - ++count}`, { token }),
      events: async () => {
        const another = await openStream(t, url)
        another.close()
        return { status: another.response.statusCode ?? 0 }
      }
    }
    t.strictSame(requests, Object.keys(ask))
    /** Asks for everything at once, and holds each answer to the table. */
    const askAll = () =>
      Promise.all(
        requests.map(async (request, i) => {
          const asked = performance.now()
          const { status, headers, body } = await ask[request]!()
          const took = performance.now() - asked - (request === 'wait' ? WAIT_SECONDS * 1000 : 0)
          const known = expected[i]!.split(' or ').map(Number)
          if (!known.includes(status)) {
            t.fail(`${request}: ${status} ${JSON.stringify(body)} instead of ${expected[i]}`)
          }
          if (took > ANSWER_MS) t.fail(`${request}: ${status} after ${Math.round(took)} ms`)
          if (status === 503) {
            t.match(
              { retry: headers?.get('retry-after'), body },
              { retry: /^\d+$/, body: { error: /^(database is not ready|redis is not ready)$/ } },
              request
            )
          }
        })
      )

    const mend = await faults[name]!(engines)
    if (name.endsWith('restarts')) {
      const back = Promise.resolve(mend()).then(() => true)
      do await askAll()
      while (!(await Promise.race([back, new Promise(setImmediate)])))
    } else {
      await askAll()
      await askAll()
      await mend()
    }

    const mended = performance.now()
    const isWell = async () =>
      (await call('GET', '/health/readyz')).status === 200 &&
      !(await call('GET', '/api/messages')).headers.has('age') &&
      (await call('GET', '/api/messages?before_id=100')).status === 200 &&
      (await call('POST', '/api/login', { body: { nickname, password: 'correct horse' } })).status === 200
    await waitUntil('it is well again', isWell)
    t.ok(
      performance.now() - mended < RECOVERY_MS,
      `well again after ${Math.round(performance.now() - mended)} ms`
    )
    const {
      body: { token: again }
    } = await call('POST', '/api/login', { body: { nickname, password: 'correct horse' } })
    if (name !== 'Redis was flushed') {
      t.equal(
        (await call('POST', '/api/messages', { token, body: { text: 'still here' } })).status,
        201,
        'nobody was logged out'
      )
    }
    const { body: last } = await call('POST', '/api/messages', { token: again, body: { text: 'and well' } })
    await waitUntil('the stream that was open before sends the message', async () =>
      (await stream.events(0)).some(({ data }) => data.message?.id === last.id)
    )
  })
}
