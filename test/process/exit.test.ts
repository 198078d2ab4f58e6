import t, { type Test } from 'tap'
import { config, createDatabase } from '../helpers/database.ts'
import { startProxy } from '../helpers/proxy.ts'
import { waitUntil } from '../helpers/raw.ts'
import { alice, ask, externalEngines, signalsApart, startServer } from '../helpers/server.ts'
import { openStream } from '../helpers/stream.ts'

// All these services are killed when they call `process.exit`: see `withoutExit`.

/** Starts a service that runs `code` first. */
const startAfter = async (t: Test, code: string, env: Record<string, string> = {}, execArgv: string[] = []) =>
  startServer(
    t,
    { ...externalEngines(), POSTGRES_DB: await createDatabase(t), ...env },
    { execArgv: ['--import', `data:text/javascript,${encodeURIComponent(code)}`, ...execArgv] }
  )

t.test('the service ends by itself after posts, a login, a search, streams and long polls', async (t) => {
  const server = startServer(t, {
    ...externalEngines(),
    POSTGRES_DB: await createDatabase(t),
    RATE_LIMIT: 'off'
  })
  const url = await server.ready
  const { body } = await ask(url, '/api/register', undefined, alice)
  const stream = await openStream(t, url)
  const poll = ask(url, '/api/messages?after_id=1000000&wait=25')
  const posts = Array.from({ length: 50 }, (_, i) =>
    ask(url, '/api/messages', body.token, { text: `message ${i}` })
  )
  t.ok((await Promise.all(posts)).every(({ status }) => status === 201))
  t.equal((await ask(url, '/api/search?q=message')).status, 200)
  const login = ask(url, '/api/login', undefined, alice).catch(() => {})
  server.child.kill('SIGTERM')
  t.equal(await server.exited, 0)
  t.match(await poll, { status: 200, body: [] })
  await stream.ended
  await login
})

for (const [engine, prefix, host, port] of [
  ['PostgreSQL', 'POSTGRES', config.POSTGRES_HOST!, config.POSTGRES_PORT],
  ['Redis', 'REDIS', config.REDIS_HOST!, config.REDIS_PORT]
] as const) {
  for (const [what, state] of [
    ['is gone', 'cut'],
    ['hangs', 'freeze']
  ] as const) {
    t.test(`the service ends by itself while ${engine} ${what}`, async (t) => {
      const proxy = await startProxy(t, host, port)
      const server = startServer(t, {
        ...externalEngines(),
        POSTGRES_DB: await createDatabase(t),
        [`${prefix}_HOST`]: '127.0.0.1',
        [`${prefix}_PORT`]: `${proxy.port}`
      })
      const url = await server.ready
      const { body } = await ask(url, '/api/register', undefined, alice)
      // So that several connections are open.
      await Promise.all([1, 2, 3].map(() => ask(url, '/api/messages', body.token, { text: 'a message' })))
      await proxy[state]()
      t.equal((await ask(url, '/health/readyz')).status, 503)
      server.child.kill('SIGTERM')
      t.equal(await server.exited, 0)
    })
  }
}

t.test('the service ends by itself after an exception, also when signals and others follow', async (t) => {
  const server = await startAfter(
    t,
    `
    process.exit = () => process.kill(process.pid, 'SIGKILL')
    process.once('SIGUSR2', () => {
      setImmediate(() => { process.kill(process.pid, 'SIGTERM') })
      setImmediate(() => { throw new Error('second') })
      throw new Error('first')
    })`
  )
  await server.ready
  server.child.kill('SIGUSR2')
  t.equal(await server.exited, 1)
  t.strictSame(
    server.errors.map(({ err }) => (err as Error).message),
    ['first', 'second']
  )
})

t.test('a resource that cannot be closed does not keep the service from exiting', async (t) => {
  const server = await startAfter(t, 'setInterval(() => {}, 1000)')
  await server.ready
  server.child.kill('SIGTERM')
  t.equal(await server.exited, 0)
  t.match(server.log.at(-1), /^not everything could be closed \(.*Timeout.*\): exiting immediately$/)
})

t.test('a third signal ends the service even when process.exit hangs', async (t) => {
  const server = await startAfter(
    t,
    'process.exit = () => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)',
    { SHUTDOWN_DELAY: '20' },
    signalsApart(501) // A second signal within half a second counts as the same one.
  )
  await server.ready
  server.child.kill('SIGTERM')
  await waitUntil('it shuts down', () => server.log.at(-1) === 'shutting down after SIGTERM')
  server.child.kill('SIGTERM')
  await waitUntil('it tries to exit', () => server.log.at(-1)?.startsWith('SIGTERM received again') === true)
  server.child.kill('SIGTERM')
  t.equal(await server.exited, 'SIGTERM')
})
