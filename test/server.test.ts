import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { freePort } from '../src/embedded/process.ts'
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

/** An engine that accepts connections, and then does no more than `greet` does. @returns its port */
async function startSilentEngine(t: Test, greet: (socket: Socket) => void = () => {}): Promise<string> {
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket.on('error', () => {}))
    greet(socket)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  return `${(server.address() as AddressInfo).port}`
}

t.test('a start gives up an engine that accepts connections but does not answer', async (t) => {
  const silent = await startSilentEngine(t)
  // Such as a pooler, which logs in its clients before it has a server for them.
  const welcoming = await startSilentEngine(t, (socket) => {
    socket.once('data', () => socket.write('R\0\0\0\b\0\0\0\0Z\0\0\0\x05I'))
  })
  const POSTGRES_DB = await createDatabase(t)
  for (const [env, line] of [
    [{ POSTGRES_PORT: silent }, /^PostgreSQL at .* is not usable after 1 s: timeout expired$/],
    [{ POSTGRES_PORT: welcoming }, /^PostgreSQL at .* is not usable after 1 s: Query read timeout$/],
    [{ REDIS_PORT: silent }, /^Redis at .* is not usable after 1 s: no answer in 1000 ms$/],
    [{ REDIS_URL: `rediss://127.0.0.1:${silent}` }, /^Redis at .* after 1 s: no answer in 1000 ms$/],
    [{ REDIS_CLUSTER_NODES: `127.0.0.1:${silent}` }, /^Redis at the cluster .* after 1 s: no answer/],
    [{ REDIS_SENTINELS: `127.0.0.1:${silent}` }, /^Redis at the sentinels .* after 1 s: no answer/]
  ] as [Record<string, string>, RegExp][]) {
    const server = startServer(t, { ...external(), POSTGRES_DB, BOOT_TIMEOUT: '1', ...env })
    t.equal(await server.exited, 1)
    t.match(
      server.log.find((text) => text.includes('is not usable')),
      line
    )
  }
})

t.test('a start gives up Sentinels that cannot be reached, and says so once', async (t) => {
  const sentinels = `127.0.0.1:${await freePort()},127.0.0.1:${await freePort()}`
  const server = startServer(t, {
    ...external(),
    POSTGRES_DB: await createDatabase(t),
    REDIS_SENTINELS: sentinels,
    REDIS_SENTINEL_NAME: 'chat',
    BOOT_TIMEOUT: '1'
  })
  t.equal(await server.exited, 1)
  const reason = 'no Sentinel gives the address of the master chat: Connection is closed.'
  t.strictSame(
    server.log.filter((line) => line.includes('Sentinel')),
    [
      `the Redis connection failed: ${reason}`,
      `Redis at the sentinels ${sentinels} is not usable after 1 s: ${reason}`
    ]
  )
})

t.test('arguments are refused, because the settings are environment variables', async (t) => {
  for (const argument of ['--help', '--port', 'start']) {
    const server = startServer(t, external(), { args: [argument, '3000'] })
    t.equal(await server.exited, 1)
    t.strictSame(server.log, [
      `the service takes no arguments such as ${argument}, only environment variables: see docs/configuration.md`
    ])
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
