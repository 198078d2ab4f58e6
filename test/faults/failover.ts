import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { startService } from '../helpers/app.ts'
import { startProxy } from '../helpers/proxy.ts'
import { waitUntil } from '../helpers/raw.ts'
import { folder } from '../helpers/server.ts'
import { openStream } from '../helpers/stream.ts'
import { type Postgres, startDatabase, startStandby } from '../proof/cluster.ts'

const RECOVERY_MS = 2000
// A statement that is under way when the server falls silent is waited for.
const STATEMENT_MS = 2250

const run = async (postgres: Postgres, ...statements: string[]) => {
  const client = await postgres.connect()
  try {
    for (const sql of statements) await client.query(sql)
  } finally {
    await client.end()
  }
}

const ask = async (postgres: Postgres, sql: string): Promise<unknown> => {
  const client = await postgres.connect()
  return client
    .query(sql)
    .then(({ rows: [row] }) => row.value)
    .finally(() => client.end())
}

/** A primary, and a standby that follows it by streaming replication. */
async function startPair(t: Test): Promise<{ primary: Postgres; standby: Postgres }> {
  const primary = await startDatabase(folder(t))
  t.teardown(() => primary.down('SIGQUIT'))
  const standby = await startStandby(primary, folder(t))
  t.teardown(() => standby.down('SIGQUIT'))
  return { primary, standby }
}

for (const [what, recoveryMs, fence] of [
  [
    'which is read-only then',
    RECOVERY_MS,
    async (primary: Postgres) =>
      run(primary, 'alter system set default_transaction_read_only = on', 'select pg_reload_conf()')
  ],
  [
    'of which nobody hears any more',
    RECOVERY_MS + STATEMENT_MS,
    async (primary: Postgres) => {
      await primary.freeze()
    }
  ]
] as const) {
  t.test(
    `PostgreSQL is switched over, and no connection to the old primary is closed, ${what}`,
    async (t) => {
      const { primary, standby } = await startPair(t)
      const { POSTGRES_PORT, POSTGRES_USER = '', POSTGRES_PASSWORD = '', POSTGRES_DB = '' } = primary.env
      const proxy = await startProxy(t, '127.0.0.1', Number(POSTGRES_PORT))
      const { call, register, post, url } = await startService(t, {
        POSTGRES_HOST: '127.0.0.1',
        POSTGRES_PORT: proxy.port,
        POSTGRES_USER,
        POSTGRES_PASSWORD,
        POSTGRES_DB
      })
      const { token } = await register()
      for (let n = 0; n < 20; n++) await post(token, `before ${n}`)
      const stream = await openStream(t, url)
      const position = await ask(primary, 'select pg_current_wal_lsn() as value')
      await waitUntil(
        'the standby has everything',
        async () => (await ask(standby, `select pg_last_wal_replay_lsn() >= '${position}' as value`)) === true
      )

      await fence(primary)
      await run(standby, 'select pg_promote()')
      proxy.redirect(Number(standby.env['POSTGRES_PORT']))
      const moved = performance.now()
      const acknowledged: number[] = []
      const newest = async () => {
        const { status, headers, body } = await call('GET', '/api/messages?limit=200')
        return { status, isOld: headers.has('age'), ids: body.map(({ id }: { id: number }) => id) }
      }
      let recoveredAt = Infinity
      while (performance.now() - moved < 6000) {
        const isDue = performance.now() - moved > recoveryMs
        const { status, body } = await call('POST', '/api/messages', { token, body: { text: 'after' } })
        if (status === 201) {
          acknowledged.push(body.id)
          recoveredAt = Math.min(recoveredAt, performance.now())
        }
        const page = await newest()
        if (!page.isOld) {
          t.ok(
            acknowledged.every((id) => page.ids.includes(id)),
            'a page without Age has every acknowledged message'
          )
        }
        if (isDue) {
          t.strictSame([status, page.isOld], [201, false], 'all is well')
        }
        await sleep(50)
      }
      t.ok(recoveredAt - moved < recoveryMs, `posts recover after ${Math.round(recoveredAt - moved)} ms`)
      t.equal((await call('GET', '/health/readyz')).status, 200)
      const told = async () => (await stream.events(1)).map(({ data }) => data.message?.id)
      await waitUntil('the stream has told every message', async () => {
        const ids = await told()
        return acknowledged.every((id) => ids.includes(id))
      })
      const foreign = await standby.connect()
      await foreign.query(
        "insert into chat_message (user_id, text, created_at) select id, 'from elsewhere', now() from chat_user limit 1"
      )
      await foreign.end()
      await waitUntil(
        'a change by others is seen',
        async () => (await call('GET', '/api/messages?limit=1')).body[0]?.text === 'from elsewhere'
      )
      primary.thaw()
    }
  )
}
