import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { createDatabase } from './helpers/database.ts'
import { waitUntil } from './helpers/raw.ts'
import {
  alice,
  ask,
  chat,
  externalEngines as external,
  folder,
  pathWith,
  startServer,
  withoutRedis
} from './helpers/server.ts'

t.test('with external engines nothing is embedded, and either engine can be embedded alone', async (t) => {
  const POSTGRES_DB = await createDatabase(t)
  const DATA_DIR = join(folder(t), 'data')
  const none = startServer(t, { ...external(), POSTGRES_DB, DATA_DIR })
  await chat(t, await none.ready, undefined, [])
  t.strictSame(none.enginePorts(), [])
  t.notOk(existsSync(DATA_DIR), 'and writes nothing')

  const onlyStore = startServer(t, {
    ...external(),
    REDIS_HOST: '',
    POSTGRES_DB,
    DATA_DIR,
    PATH: pathWith(t, withoutRedis)
  })
  t.equal((await ask(await onlyStore.ready, '/api/login', undefined, alice)).status, 200)
  t.equal(onlyStore.enginePorts().length, 1)
  t.match(onlyStore.log.join('\n'), 'reimplementation of Redis')

  const onlyPostgres = startServer(t, { ...external(), POSTGRES_HOST: '', DATA_DIR: folder(t) })
  await chat(t, await onlyPostgres.ready, undefined, [])
  t.equal(onlyPostgres.enginePorts().length, 1)
})

t.test('a start that must fail exits with one clear line and code 1', async (t) => {
  const running = startServer(t, { ...external(), POSTGRES_DB: await createDatabase(t) })
  const taken = new URL(await running.ready).port
  for (const [env, line] of [
    [{ HTTP_PORT: 'http' }, /^HTTP_PORT must be a whole number from 0 to 65535, not "http"$/],
    [
      { HTTP_PORT: taken },
      /^HTTP_PORT \d+ is in use: end the program that listens there, or set HTTP_PORT to another port$/
    ],
    [{ HTTP_HOST: '203.0.113.1' }, /^HTTP_HOST 203\.0\.113\.1 is not an address of this machine$/],
    [
      { REDIS_HOST: '', DATA_DIR: '/dev/null/data' },
      /^DATA_DIR cannot be used, because \/dev\/null\/data is not a folder: set it to another one$/
    ],
    [
      { POSTGRES_PORT: '9', BOOT_TIMEOUT: '1' },
      /^PostgreSQL at 127\.0\.0\.1:9 is not usable after 1 s: connect ECONNREFUSED/
    ],
    [
      { POSTGRES_PASSWORD: 'wrong', BOOT_TIMEOUT: '1' },
      /^PostgreSQL at .* is not usable after 1 s: password authentication failed/
    ],
    [
      { REDIS_DB: '999', BOOT_TIMEOUT: '1' },
      /^Redis at .* is not usable after 1 s: ERR .*index is out of range/
    ],
    [
      { REDIS_PORT: '9', BOOT_TIMEOUT: '1' },
      /^Redis at 127\.0\.0\.1:9 is not usable after 1 s: connect ECONNREFUSED/
    ]
  ] as [Record<string, string>, RegExp][]) {
    const server = startServer(t, { ...external(), POSTGRES_DB: await createDatabase(t), ...env })
    t.equal(await server.exited, 1, JSON.stringify(env))
    t.match(server.log.at(-1), line)
    if (env['BOOT_TIMEOUT']) {
      t.ok(
        server.log.some((msg) => /^waiting for (PostgreSQL|Redis) at /.test(msg)),
        'with a line for each try'
      )
    }
  }
})

t.test('a service that is stopped while it waits for an engine exits immediately', async (t) => {
  const server = startServer(t, { ...external(), POSTGRES_PORT: '9' })
  await waitUntil('it waits for PostgreSQL', () =>
    server.log.some((msg) => msg.startsWith('waiting for PostgreSQL'))
  )
  server.child.kill('SIGTERM')
  t.equal(await server.exited, 0)
  t.equal(server.log.at(-1), 'shutting down after SIGTERM')
})

t.test('npm run migrate creates the tables and does nothing else', async (t) => {
  const POSTGRES_DB = await createDatabase(t)
  const migrate = (env: Record<string, string>) =>
    spawnSync('npm', ['run', '--silent', 'migrate'], {
      env: { ...process.env, ...external(), REDIS_HOST: '', POSTGRES_DB, ...env },
      encoding: 'utf8'
    })
  t.match(migrate({}), { status: 0, stdout: /applied the migration 001_[^]*the database is up to date/ })
  const again = migrate({})
  t.match(again, { status: 0, stdout: /the database is up to date/ })
  t.notMatch(again.stdout, /was migrated/)
  t.match(migrate({ POSTGRES_PORT: '9', BOOT_TIMEOUT: '1' }), {
    status: 1,
    stdout: /PostgreSQL at 127\.0\.0\.1:9 is not usable after 1 s/
  })

  t.match(migrate({ POSTGRES_HOST: '' }), {
    status: 1,
    stdout: /POSTGRES_HOST or POSTGRES_URL must be set when MIGRATE is only/
  })

  const server = startServer(t, { ...external(), POSTGRES_DB, MIGRATE: 'off' })
  t.equal((await ask(await server.ready, '/health/readyz')).status, 200)
})
