import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readFileSync } from 'node:fs'
import { type AddressInfo, connect, createServer, type ListenOptions, type Socket } from 'node:net'
import { join } from 'node:path'
import { TLSSocket } from 'node:tls'
import pg from 'pg'
import t, { type Test } from 'tap'
import { formatAddress, postgresAddress, redisAddresses } from '../../src/lib/engine-addresses.ts'
import { loadConfig } from '../../src/config.ts'
import { connectionOptions } from '../../src/plugins/postgres.ts'
import { config, createDatabase } from '../helpers/database.ts'
import { waitUntil } from '../helpers/raw.ts'
import { ask, checkout, externalEngines, folder, startServer, withoutExit } from '../helpers/server.ts'

/** Passes everything on between a client and an engine. */
function connectBoth(client: Socket, engine: Socket): void {
  client
    .on('error', () => {})
    .on('close', () => engine.destroy())
    .pipe(engine)
  engine
    .on('error', () => {})
    .on('close', () => client.destroy())
    .pipe(client)
}

/** Passes everything on to an engine, from another kind of address. @returns the port, if it has one */
async function relay(t: Test, from: ListenOptions, port: number): Promise<number | undefined> {
  const server = createServer((client) => connectBoth(client, connect(port, '127.0.0.1'))).listen(from)
  t.teardown(() => server.close())
  await once(server, 'listening')
  const address = server.address()
  return typeof address === 'object' ? address?.port : undefined
}

/** The init container of the chart, with that environment. */
function wait(t: Test, engine: string, env: Record<string, string>) {
  const child = spawn(
    '/usr/bin/env',
    ['-u', 'NODE_OPTIONS', process.execPath, ...withoutExit, join(checkout, 'dist/src/wait.js'), engine],
    {
      env: { PATH: process.env['PATH'], ...env },
      stdio: ['ignore', 'pipe', 'inherit'],
      cwd: '/'
    }
  )
  t.teardown(() => child.kill())
  let printed = ''
  child.stdout.setEncoding('utf8').on('data', (text) => {
    printed += text
  })
  return {
    child,
    printed: () => printed,
    exited: once(child, 'exit').then(([code, signal]) => code ?? signal)
  }
}

t.test('addresses of PostgreSQL', async (t) => {
  for (const [env, at, as] of [
    [{ POSTGRES_HOST: 'db' }, 'db:5432', 'chat chat chat'],
    [
      {
        POSTGRES_HOST: 'db',
        POSTGRES_PORT: '6432',
        POSTGRES_USER: 'u',
        POSTGRES_PASSWORD: 'p',
        POSTGRES_DB: 'd'
      },
      'db:6432',
      'u p d'
    ],
    [{ POSTGRES_HOST: 'fd00::1' }, '[fd00::1]:5432', 'chat chat chat'],
    [{ POSTGRES_HOST: '[fd00::1]', POSTGRES_PORT: '6432' }, '[fd00::1]:6432', 'chat chat chat'],
    [{ POSTGRES_HOST: '/var/run/postgresql' }, '/var/run/postgresql/.s.PGSQL.5432', 'chat chat chat'],
    [
      { POSTGRES_HOST: '/var/run/postgresql', POSTGRES_PORT: '5433' },
      '/var/run/postgresql/.s.PGSQL.5433',
      'chat chat chat'
    ],
    [{ POSTGRES_URL: 'postgres://u:p@db/d' }, 'db:5432', 'u p d'],
    [{ POSTGRES_URL: 'postgresql://u:p@db:6432/d?sslmode=disable&connect_timeout=3' }, 'db:6432', 'u p d'],
    [{ POSTGRES_URL: 'postgres://u:p@db:/d' }, 'db:5432', 'u p d'],
    [{ POSTGRES_URL: 'postgres://u:p@[fd00::1]/d' }, '[fd00::1]:5432', 'u p d'],
    [{ POSTGRES_URL: 'postgres://u:p@[::1]:5433/d?application_name=x' }, '[::1]:5433', 'u p d'],
    [{ POSTGRES_URL: 'postgres://u:p@10.0.0.1:5433/d' }, '10.0.0.1:5433', 'u p d'],
    [
      { POSTGRES_URL: 'postgres:///d?host=/var/run/postgresql' },
      '/var/run/postgresql/.s.PGSQL.5432',
      'chat chat d'
    ],
    [
      { POSTGRES_URL: 'postgres:///d?host=/var/run/postgresql&port=5433&user=u&password=p%26' },
      '/var/run/postgresql/.s.PGSQL.5433',
      'u p& d'
    ],
    [
      { POSTGRES_URL: 'postgres://u:p@/d?host=/var/run/postgresql' },
      '/var/run/postgresql/.s.PGSQL.5432',
      'u p d'
    ],
    [
      { POSTGRES_URL: 'postgres://u@%2Fvar%2Frun%2Fpostgresql:5433/d' },
      '/var/run/postgresql/.s.PGSQL.5433',
      'u chat d'
    ],
    [{ POSTGRES_URL: 'postgres:///?host=%2Frun%2Fpg' }, '/run/pg/.s.PGSQL.5432', 'chat chat chat'],
    [{ POSTGRES_URL: 'postgres:///d?host=fd00::1' }, '[fd00::1]:5432', 'chat chat d'],
    [{ POSTGRES_URL: 'postgres://u%40x:p%3A%2F%3F%23%5B%40%25@db/a%20b' }, 'db:5432', 'u@x p:/?#[@% a b'],
    [
      {
        POSTGRES_URL: 'postgres://db',
        POSTGRES_USER: 'u',
        POSTGRES_PASSWORD: 'p',
        POSTGRES_DB: 'd',
        POSTGRES_HOST: 'other',
        POSTGRES_PORT: '1'
      },
      'db:5432',
      'u p d'
    ]
  ] as [Record<string, string>, string, string][]) {
    const config = loadConfig(env)
    t.equal(formatAddress(postgresAddress(config)), at, JSON.stringify(env))
    const { user, password, database } = connectionOptions(config)
    t.equal(`${user} ${password} ${database}`, as)
  }
})

/** Puts TLS before PostgreSQL, for the name localhost. @returns the port, and the file of the certificate */
async function startTls(t: Test): Promise<{ port: number; certificate: string }> {
  const dir = folder(t)
  const [certificate, key] = [join(dir, 'server.crt'), join(dir, 'server.key')]
  const made = spawnSync('openssl', [
    ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '1'],
    ...['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost'],
    ...['-out', certificate, '-keyout', key]
  ])
  t.equal(made.status, 0)
  const options = { isServer: true, cert: readFileSync(certificate), key: readFileSync(key) }
  const server = createServer((socket) => {
    socket
      .on('error', () => {})
      .once('data', (first) => {
        // https://www.postgresql.org/docs/current/protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-SSLREQUEST
        if (first.readInt32BE(4) !== 80877103) return socket.destroy()
        socket.write('S')
        connectBoth(new TLSSocket(socket, options), connect(config.POSTGRES_PORT, config.POSTGRES_HOST!))
      })
  }).listen(0)
  t.teardown(() => server.close())
  await once(server, 'listening')
  return { port: (server.address() as AddressInfo).port, certificate }
}

t.test('with TLS the certificate of PostgreSQL is verified, but for no-verify', async (t) => {
  const { port, certificate } = await startTls(t)
  const warnings: Error[] = []
  const note = (warning: Error) => warnings.push(warning)
  process.on('warning', note)
  t.teardown(() => process.off('warning', note))
  /** Whether a connection is encrypted, or why there is none. */
  const reach = async (host: string, parameters: string) => {
    const { POSTGRES_USER, POSTGRES_PASSWORD, POSTGRES_DB } = config
    const url = `postgres://${POSTGRES_USER}:${POSTGRES_PASSWORD}@${host}:${port}/${POSTGRES_DB}?${parameters}`
    const client = new pg.Client(connectionOptions(loadConfig({ POSTGRES_URL: url })))
    client.on('error', () => {})
    t.teardown(() => client.end())
    return client.connect().then(
      () => 'encrypted',
      ({ message }: Error) => message
    )
  }
  const rootcert = `sslrootcert=${encodeURIComponent(certificate)}`
  for (const mode of ['allow', 'prefer', 'require', 'verify-ca', 'verify-full']) {
    t.match(await reach('localhost', `sslmode=${mode}`), /self.signed certificate/, mode)
    t.equal(await reach('localhost', `sslmode=${mode}&${rootcert}`), 'encrypted', mode)
    t.match(await reach('127.0.0.1', `sslmode=${mode}&${rootcert}`), /not in the cert's list/, mode)
  }
  t.equal(await reach('localhost', rootcert), 'encrypted')
  t.equal(await reach('127.0.0.1', 'sslmode=no-verify'), 'encrypted')
  t.equal(
    await reach('127.0.0.1', 'uselibpqcompat=true&sslmode=require'),
    'encrypted',
    'as node-postgres says'
  )
  t.match(await reach('localhost', 'sslmode=disable'), /Connection terminated/)
  t.strictSame(warnings, [], 'and nothing is printed')
})

t.test('addresses of Redis', async (t) => {
  for (const [env, at] of [
    [{ REDIS_HOST: 'redis' }, 'redis:6379'],
    [{ REDIS_HOST: '::1', REDIS_PORT: '6380' }, '[::1]:6380'],
    [{ REDIS_HOST: '[::1]' }, '[::1]:6379'],
    [{ REDIS_HOST: '/run/redis/redis.sock' }, '/run/redis/redis.sock'],
    [{ REDIS_URL: 'redis://redis' }, 'redis:6379'],
    [{ REDIS_URL: 'redis://redis:/1' }, 'redis:6379'],
    [{ REDIS_URL: 'rediss://u:p%40@redis:6380/2?family=6' }, 'redis:6380'],
    [{ REDIS_URL: 'redis://[fd00::1]/2' }, '[fd00::1]:6379'],
    [{ REDIS_URL: 'redis://:p@[::1]:6380', REDIS_HOST: 'other', REDIS_PORT: '1' }, '[::1]:6380'],
    [{ REDIS_SENTINELS: 'a:26379, [fd00::2]:26380' }, 'a:26379 [fd00::2]:26380'],
    [{ REDIS_CLUSTER_NODES: '10.0.0.1:7000,[::1]:7001' }, '10.0.0.1:7000 [::1]:7001']
  ] as [Record<string, string>, string][]) {
    t.equal(redisAddresses(loadConfig(env)).map(formatAddress).join(' '), at, JSON.stringify(env))
  }
})

t.test('a start with an unreachable URL fails with one line without the password', async (t) => {
  for (const [name, url] of [
    ...[
      'postgres://',
      'postgres:///chat',
      'postgres://chat:secret@/chat',
      'postgres://chat:secret@db:0/chat',
      'postgres://chat:secret@db:70000/chat',
      'postgres:///chat?host=&password=secret',
      'postgres:///chat?host=db&port=secret',
      'postgres://chat:secret@[::1/chat',
      'mysql://chat:secret@db/chat',
      '/var/run/postgresql chat'
    ].map((url) => ['POSTGRES_URL', url]),
    ...[
      'redis://',
      'redis:///1',
      'redis://:secret@redis:0',
      'redis://:secret@redis/one',
      'redis://:secret@redis/-1',
      'redis://:secret@redis?family=IPv6',
      'redis://:secret%zz@redis',
      'redis://:secret@[::1',
      'http://:secret@redis'
    ].map((url) => ['REDIS_URL', url])
  ] as [string, string][]) {
    const message =
      name === 'POSTGRES_URL'
        ? 'postgres://user:password@host:port/database'
        : 'redis://user:password@host:port/db (rediss:// for TLS)'
    t.throws(() => loadConfig({ [name]: url }), { message: `${name} must be ${message}, and is not` }, url)
  }
  t.throws(
    () =>
      loadConfig({ POSTGRES_URL: 'postgres://u:secret@db/d?sslmode=verify-full&sslrootcert=/no/such/file' }),
    {
      message:
        "POSTGRES_URL names a file that cannot be read: ENOENT: no such file or directory, open '/no/such/file'"
    }
  )
})

t.test('the service and its init containers reach the engines at the same addresses', async (t) => {
  const { POSTGRES_USER: user, POSTGRES_PASSWORD: password, REDIS_PASSWORD } = externalEngines()
  const dir = join(folder(t), 'sockets')
  mkdirSync(dir)
  const [pg, redis] = [config.POSTGRES_PORT, config.REDIS_PORT]
  await relay(t, { path: join(dir, '.s.PGSQL.5432') }, pg)
  await relay(t, { path: join(dir, 'redis.sock') }, redis)
  const pg6 = await relay(t, { host: '::1', port: 0 }, pg)
  const redis6 = await relay(t, { host: '::1', port: 0 }, redis)
  const database = await createDatabase(t)
  const account = { POSTGRES_USER: user, POSTGRES_PASSWORD: password, POSTGRES_DB: database }
  const redisAuth = REDIS_PASSWORD === '' ? '' : `:${encodeURIComponent(REDIS_PASSWORD)}@`
  for (const env of [
    {
      POSTGRES_URL: `postgres://${user}:${password}@[::1]:${pg6}/${database}`,
      REDIS_URL: `redis://${redisAuth}[::1]:${redis6}/0`
    },
    {
      POSTGRES_URL: `postgres:///${database}?host=${dir}&user=${user}&password=${password}`,
      REDIS_HOST: join(dir, 'redis.sock'),
      REDIS_PASSWORD
    },
    { POSTGRES_HOST: dir, ...account, REDIS_HOST: '[::1]', REDIS_PORT: `${redis6}`, REDIS_PASSWORD },
    {
      POSTGRES_HOST: '::1',
      POSTGRES_PORT: `${pg6}`,
      ...account,
      REDIS_HOST: '::1',
      REDIS_PORT: `${redis6}`,
      REDIS_PASSWORD
    }
  ] as Record<string, string>[]) {
    for (const engine of ['postgres', 'redis']) {
      const { exited, printed } = wait(t, engine, env)
      t.equal(await exited, 0, `${engine} of ${JSON.stringify(env)}`)
      t.match(printed(), /"msg":"(PostgreSQL|Redis) at \S+ answers"/)
    }
    const server = startServer(t, env)
    t.equal((await ask(await server.ready, '/health/readyz')).status, 200)
    server.child.kill('SIGTERM')
    await server.exited
  }
})

t.test('an init container waits until the engine answers, and can be stopped', async (t) => {
  const dir = folder(t)
  const late = wait(t, 'postgres', { POSTGRES_HOST: dir })
  const line = `waiting for PostgreSQL at ${dir}/.s.PGSQL.5432`
  await waitUntil('it waits', () => late.printed().includes(line), 30_000)
  await relay(t, { path: join(dir, '.s.PGSQL.5432') }, config.POSTGRES_PORT)
  t.equal(await late.exited, 0)

  const one = wait(t, 'redis', { REDIS_SENTINELS: `127.0.0.1:9,127.0.0.1:${config.REDIS_PORT}` })
  t.equal(await one.exited, 0, 'one Sentinel is enough')

  const never = wait(t, 'redis', { REDIS_HOST: '127.0.0.1', REDIS_PORT: '9' })
  await waitUntil('it tries again', () => never.printed().includes('"tries":2'), 30_000)
  never.child.kill('SIGTERM')
  t.equal(await never.exited, 1)

  for (const [engine, env, line] of [
    ['postgres', {}, 'POSTGRES_HOST or POSTGRES_URL must be set'],
    ['redis', {}, 'REDIS_HOST or REDIS_URL or REDIS_SENTINELS or REDIS_CLUSTER_NODES must be set'],
    [
      'postgres',
      { POSTGRES_URL: 'nonsense' },
      'POSTGRES_URL must be postgres://user:password@host:port/database, and is not'
    ],
    ['mysql', {}, 'wait.js waits for postgres or redis, not for mysql']
  ] as const) {
    const { exited, printed } = wait(t, engine, env)
    t.equal(await exited, 1)
    t.equal(JSON.parse(printed().trim()).msg, line)
  }
})
