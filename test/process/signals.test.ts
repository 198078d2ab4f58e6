import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import { migrations } from '../../src/database/migrations.ts'
import { connect, createDatabase } from '../helpers/database.ts'
import { waitUntil } from '../helpers/raw.ts'
import {
  checkout,
  endsPromptly,
  externalEngines,
  folder,
  processesWith,
  type Server,
  signalsApart,
  startServer,
  withoutExit
} from '../helpers/server.ts'

/** Resolves once the service has received its first signal. */
const isShuttingDown = ({ log }: Server, signal: NodeJS.Signals) =>
  waitUntil('it shuts down', () => log.at(-1) === `shutting down after ${signal}`)

t.test('a second signal within half a second counts as the same one', async (t) => {
  const POSTGRES_DB = await createDatabase(t)
  for (const [first, second, pause] of [
    ['SIGINT', 'SIGINT', 0],
    ['SIGINT', 'SIGINT', 5],
    ['SIGINT', 'SIGTERM', 100],
    ['SIGTERM', 'SIGTERM', 500],
    ['SIGHUP', 'SIGINT', 50]
  ] as const) {
    const env = { ...externalEngines(), POSTGRES_DB, SHUTDOWN_DELAY: '1' }
    const server = startServer(t, env, { execArgv: [...withoutExit, ...signalsApart(pause)] })
    await server.ready
    server.child.kill(first)
    // The kernel keeps only one of two equal signals that a process has not received yet.
    if (pause > 0) await isShuttingDown(server, first)
    server.child.kill(second)
    t.equal(await server.exited, 0, `${first} and ${second}, ${pause} ms apart`)
    t.equal(server.log.at(-1), `shutting down after ${first}`)
  }
})

t.test('a later second signal ends the service immediately', async (t) => {
  const POSTGRES_DB = await createDatabase(t)
  const env = { ...externalEngines(), POSTGRES_DB, SHUTDOWN_DELAY: '20' }
  const server = startServer(t, env, { execArgv: signalsApart(501) }) // It may call process.exit.
  await server.ready
  server.child.kill('SIGTERM')
  await isShuttingDown(server, 'SIGTERM')
  const since = performance.now()
  server.child.kill('SIGINT')
  t.equal(await server.exited, 1)
  t.ok(performance.now() - since < 10_000, 'not after 20 s')
  t.equal(server.log.at(-1), 'SIGINT received again: exiting immediately')
})

t.test(
  'Ctrl-C in a terminal on `npm start` is one graceful shutdown, although npm passes it on',
  async (t) => {
    const DATA_DIR = join(folder(t), 'data')
    for (let i = 0; i < 6; i++) {
      // `script` is the terminal: what it reads is typed, and what is shown it prints.
      const terminal = spawn(
        'script',
        ['--quiet', '--return', '--command', 'exec env -u NODE_OPTIONS npm start', '/dev/null'],
        {
          cwd: checkout,
          env: {
            PATH: process.env['PATH'],
            HOME: process.env['HOME'],
            HTTP_PORT: '0',
            BCRYPT_COST: '4',
            DATA_DIR
          },
          stdio: ['pipe', 'pipe', 'inherit']
        }
      )
      let shown = ''
      terminal.stdout.setEncoding('utf8').on('data', (text) => {
        shown += text
      })
      const exited = once(terminal, 'exit')
      await waitUntil(
        'it is ready',
        () => shown.includes('the chat is ready at') || terminal.exitCode !== null,
        60_000
      )
      terminal.stdin.write('\x03')
      const [code] = await exited
      t.equal(code, 0, shown)
      t.match(shown, /shutting down after SIGINT/)
      t.notMatch(shown, /again|second/)
      t.strictSame(processesWith(DATA_DIR), [], 'no process is left')
    }
  }
)

t.test('a signal while the service waits for an engine ends it immediately', async (t) => {
  const silent = createServer(() => {}).listen(0, '127.0.0.1')
  await once(silent, 'listening')
  t.teardown(() => silent.close())
  const port = `${(silent.address() as AddressInfo).port}`
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    for (const env of [{ POSTGRES_PORT: '9' }, { REDIS_PORT: '9' }]) {
      const server = startServer(t, { ...externalEngines(), POSTGRES_DB: await createDatabase(t), ...env })
      await waitUntil('it waits', () => server.log.some((line) => line.startsWith('waiting for ')), 60_000)
      await endsPromptly(t, server, signal)
    }
    for (const env of [{ POSTGRES_PORT: port }, { REDIS_PORT: port }]) {
      const server = startServer(t, { ...externalEngines(), POSTGRES_DB: await createDatabase(t), ...env })
      await once(silent, 'connection') // An engine that hangs.
      await endsPromptly(t, server, signal)
    }
  }
})

t.test(
  'a service that is told to end while it migrates does so at once, and the next one starts',
  async (t) => {
    const POSTGRES_DB = await createDatabase(t)
    const env = { ...externalEngines(), POSTGRES_DB }
    const others = await connect(t, POSTGRES_DB)
    for (const { sql, shared } of migrations) {
      if (shared) await others.query(sql)
    }
    await others.query('begin; lock table chat_user')
    const waiting = async () =>
      (await others.query("select from pg_locks where not granted and relation = 'chat_user'::regclass"))
        .rowCount
    for (const [MIGRATE, code] of [
      ['on', 0],
      ['only', 1]
    ] as const) {
      const server = startServer(t, { ...env, MIGRATE })
      await waitUntil('it waits for the table', async () => (await waiting()) === 1, 60_000)
      await endsPromptly(t, server, 'SIGTERM', code)
      await waitUntil('nobody waits for the table any more', async () => (await waiting()) === 0)
    }
    await others.query('rollback')
    t.equal((await fetch(`${await startServer(t, env).ready}/health/readyz`)).status, 200)
  }
)
