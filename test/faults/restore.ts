import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { startService } from '../helpers/app.ts'
import { admin, config, connect, createDatabase } from '../helpers/database.ts'
import { waitUntil } from '../helpers/raw.ts'
import { folder } from '../helpers/server.ts'
import { openStream } from '../helpers/stream.ts'

// Needs the pg_dump and pg_restore of the server's version. It runs exactly the SQL of docs/backup.md.
const page = readFileSync(new URL('../../docs/backup.md', import.meta.url), 'utf8')
const afterRestore = /```sql\n([^`]*setval[^`]*)```/.exec(page)?.[1] ?? ''

const run = (program: string, ...args: string[]) => {
  const { status, stderr } = spawnSync(
    program,
    [
      '--host',
      config.POSTGRES_HOST!,
      '--port',
      `${config.POSTGRES_PORT}`,
      '--username',
      config.POSTGRES_USER,
      ...args
    ],
    { encoding: 'utf8', env: { ...process.env, PGPASSWORD: config.POSTGRES_PASSWORD } }
  )
  if (status !== 0) throw new Error(`${program}: ${stderr}`)
}

t.test(
  'after a restore clients are told to load again, nothing is taken for what was lost, and nobody gets the session of another',
  async (t) => {
    const first = await startService(t)
    const { database, call, register, post } = first
    const alice = await register()
    const kept = await post(alice.token, 'kept')
    const dump = join(folder(t), 'chat.dump')
    run('pg_dump', '--format=custom', '--file', dump, '--dbname', database)

    const bob = await register()
    const lost = await post(bob.token, 'lost')
    const stream = await openStream(t, first.url, '?since=1')
    const cursor = (await stream.events(2)).at(-1)!.id

    // The service is not even stopped: it loses its database, and finds an older one in its place.
    const restored = await createDatabase(t)
    run('pg_restore', '--exit-on-error', '--no-owner', '--single-transaction', '--dbname', restored, dump)
    const client = await connect(t, restored)
    await client.query(afterRestore)
    await client.end()
    await admin(`alter database ${database} with allow_connections false`)
    await admin(`select pg_terminate_backend(pid) from pg_stat_activity where datname = '${database}'`)
    await admin(`alter database ${database} rename to lost_${database}`)
    t.teardown(() => admin(`drop database lost_${database} with (force)`))
    await admin(`alter database ${restored} rename to ${database}`)
    t.teardown(() => admin(`create database ${restored}`)) // which its own teardown wants to drop
    await waitUntil('readyz is 200', async () => (await call('GET', '/health/readyz')).status === 200)

    t.equal((await stream.events(3))[2]?.data.type, 'reset', 'a stream that was open is told to load again')
    t.match((await call('GET', '/api/messages')).body, [{ id: kept.id, text: 'kept' }])
    t.equal(
      (await (await openStream(t, first.url, `?since=${cursor}`)).events(1))[0]?.data.type,
      'reset',
      'so is one that resumes'
    )

    const carol = await register()
    t.match(
      await call('POST', '/api/messages', { token: bob.token, body: { text: 'as whom?' } }),
      { status: 401 },
      'a lost account does not become another'
    )
    t.not(carol.userId, bob.userId)
    t.equal(
      (await call('POST', '/api/messages', { token: alice.token, body: { text: 'still logged in' } })).status,
      201
    )
    const ids: number[] = []
    for (let n = 0; n < 5; n++) ids.push((await post(carol.token, `new ${n}`)).id)
    t.ok(
      ids.every((id) => id > lost.id),
      'no id is given again'
    )
    t.match(
      (await call('GET', `/api/messages?after_id=${lost.id}`)).body,
      [{ text: 'still logged in' }, ...ids.map((id) => ({ id }))],
      'a poller misses nothing'
    )
    const second = await startService(t, { POSTGRES_DB: database })
    for (const { url } of [first, second]) {
      t.equal(
        (await (await openStream(t, url, `?since=${cursor}`)).events(1))[0]?.data.type,
        'reset',
        'a cursor from before never becomes valid again'
      )
    }
  }
)
