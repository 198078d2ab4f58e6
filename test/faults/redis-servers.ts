import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import t, { type Test } from 'tap'
import { freePort } from '../../src/embedded/process.ts'
import { type Service, startService } from '../helpers/app.ts'
import { connect } from '../helpers/database.ts'
import { startProxy } from '../helpers/proxy.ts'
import { waitUntil } from '../helpers/raw.ts'
import { relyOnOne } from '../helpers/replicas.ts'
import { folder } from '../helpers/server.ts'
import { openStream } from '../helpers/stream.ts'

// Several real Redis servers: a master with a replica and their Sentinel, and a cluster of three. They need
// `redis-server` on the PATH.

const PASSWORD = 'not-so-secret'

interface Server {
  port: number
  dir: string
  client: Redis
  kill: () => Promise<void>
}

/** Starts a server with that configuration, and waits until it answers. */
async function start(t: Test, lines: string[], mode: string[] = []): Promise<Server> {
  const port = await freePort()
  const dir = folder(t)
  const file = join(dir, 'redis.conf')
  writeFileSync(file, ['bind 127.0.0.1', `port ${port}`, `dir ${dir}`, ...lines].join('\n'))
  const child = spawn('redis-server', [file, ...mode], { stdio: 'ignore' })
  const exited = once(child, 'exit')
  const client = new Redis({
    port,
    ...(mode.length === 0 && { password: PASSWORD }),
    retryStrategy: () => 20,
    maxRetriesPerRequest: null
  }).on('error', () => {})
  const kill = async () => {
    client.disconnect()
    child.kill('SIGKILL')
    await exited
  }
  t.teardown(kill)
  await client.ping()
  return { port, dir, client, kill }
}

const waitForReplication = (replica: Redis) =>
  waitUntil('the replica follows its master', async () =>
    /role:slave[^]*master_link_status:up/.test(await replica.info('replication'))
  )

/** Waits until replicas tell each other through Redis what is new, and each tells of a change by SQL. */
async function fanOut(t: Test, replicas: Service[], text: string): Promise<void> {
  await waitUntil('one replica announces to the others', () => relyOnOne(replicas))
  await tellAll(t, replicas, text)
}

/** Changes something by SQL, and waits until each replica has told of it. */
async function tellAll(t: Test, replicas: Service[], text: string): Promise<void> {
  const streams = await Promise.all(replicas.map(({ url }) => openStream(t, url)))
  const other = await connect(t, replicas[0]!.database)
  await other.query(
    `insert into chat_message (user_id, text, created_at) select id, '${text}', now() from chat_user limit 1`
  )
  for (const stream of streams) {
    await waitUntil(`each replica tells of what was written ${text}`, async () =>
      (await stream.events(0)).some(({ data }) => data.message?.text === text)
    )
    stream.close()
  }
}

const LOCKED = [`requirepass ${PASSWORD}`, `masterauth ${PASSWORD}`, 'save ""']

t.test('with Sentinels sessions survive a failover, and nobody is logged out meanwhile', async (t) => {
  const master = await start(t, LOCKED)
  const replica = await start(t, [...LOCKED, `replicaof 127.0.0.1 ${master.port}`])
  const sentinel = await start(
    t,
    [
      `sentinel monitor chat 127.0.0.1 ${master.port} 1`,
      `sentinel auth-pass chat ${PASSWORD}`,
      'sentinel down-after-milliseconds chat 500',
      'sentinel failover-timeout chat 3000'
    ],
    ['--sentinel']
  )
  await waitForReplication(replica.client)
  await waitUntil(
    'the Sentinel knows the replica',
    async () => ((await sentinel.client.call('sentinel', 'replicas', 'chat')) as unknown[]).length === 1
  )

  const settings = {
    REDIS_SENTINELS: `127.0.0.1:${await freePort()}, 127.0.0.1:${sentinel.port}`,
    REDIS_SENTINEL_NAME: 'chat',
    REDIS_PASSWORD: PASSWORD,
    RATE_LIMIT: 'on'
  } as const
  await t.rejects(
    startService(t, { ...settings, REDIS_SENTINEL_NAME: 'another', BOOT_TIMEOUT: 1 }),
    /^Redis at the sentinels .* is not usable after 1 s: no Sentinel gives the address of the master another/,
    'a start with a name that no Sentinel knows ends'
  )
  const service = await startService(t, settings)
  const { call, register, database } = service
  const { token } = await register()
  const replicas = [service, await startService(t, { ...settings, POSTGRES_DB: database })]
  await fanOut(t, replicas, 'before')
  const post = async () => (await call('POST', '/api/messages', { token, body: { text: 'hello' } })).status

  t.equal(await post(), 201)
  // A master answers before its replicas have it.
  await waitUntil(
    'the replica has the session',
    async () => (await replica.client.exists(`session:${token}`)) === 1
  )
  await master.kill()
  let status = 503
  await waitUntil('there is a master again', async () => {
    status = await post()
    return status !== 503
  })
  t.equal(status, 201, 'an answer is 503 until there is a master again')
  t.match(await replica.client.info('replication'), 'role:master', 'and that is the replica')
  await fanOut(t, replicas, 'after')
})

t.test('sessions and limits work on a cluster of three nodes, and survive the loss of one', async (t) => {
  // Left to itself, a node takes a port for the others that may be in use.
  const startNode = async () => {
    const busPort = await freePort()
    return { ...(await start(t, [...LOCKED, 'cluster-enabled yes', `cluster-port ${busPort}`])), busPort }
  }
  const nodes = [await startNode(), await startNode(), await startNode()]
  const [first, , last] = nodes
  for (const [i, { client }] of nodes.entries()) {
    await client.call(
      'cluster',
      'addslotsrange',
      Math.ceil((i * 16384) / 3),
      Math.ceil(((i + 1) * 16384) / 3) - 1
    )
  }
  for (const { port, busPort } of nodes.slice(1)) {
    await first!.client.call('cluster', 'meet', '127.0.0.1', port, busPort)
  }
  for (const { client } of nodes) {
    await waitUntil('the cluster is complete', async () =>
      /cluster_state:ok[^]*cluster_known_nodes:3/.test((await client.call('cluster', 'info')) as string)
    )
  }

  const settings = {
    REDIS_CLUSTER_NODES: `127.0.0.1:${first!.port}`,
    REDIS_PASSWORD: PASSWORD,
    RATE_LIMIT: 'on'
  } as const
  const service = await startService(t, settings)
  const { call, register, database } = service
  const { nickname } = await register()
  const replicas = [service, await startService(t, { ...settings, POSTGRES_DB: database })]
  await fanOut(t, replicas, 'in a cluster')
  const login = async (password: string) => call('POST', '/api/login', { body: { nickname, password } })
  // With thirty random keys, each of the three has some.
  const tokens: string[] = []
  for (let i = 0; i < 30; i++) tokens.push((await login('correct horse')).body.token)
  for (const { client } of nodes) t.not(await client.dbsize(), 0, 'each node has a part')
  for (const token of tokens.slice(0, 10)) {
    t.match(await call('POST', '/api/messages', { token, body: { text: 'hello' } }), { status: 201 })
  }
  const [token = ''] = tokens
  t.equal((await call('GET', '/api/sessions', { token })).body.length, 31)

  for (let i = 0; i < 10; i++) t.equal((await login('wrong horse')).status, 401)
  t.equal((await login('wrong horse')).status, 429, 'a limit counts in a cluster, too')

  t.equal((await call('DELETE', '/api/sessions', { token })).status, 204)
  for (const other of tokens.slice(1)) {
    t.equal(
      (await call('GET', '/api/sessions', { token: other })).status,
      401,
      'every other session has ended, wherever it was'
    )
  }
  t.equal((await call('GET', '/api/sessions', { token })).body.length, 1)

  await last!.kill()
  const statuses = new Set<number>()
  await waitUntil('the loss is noticed', async () => {
    const { status } = await call('GET', '/api/sessions', { token })
    statuses.add(status)
    return status === 503
  })
  t.notOk(statuses.has(401), 'what cannot be asked is 503, and never 401')
  t.equal((await call('GET', '/api/messages')).status, 200, 'reading needs no Redis')
  await tellAll(t, replicas, 'without one of its nodes')
})

t.test('while Redis is away, each replica hears of changes from PostgreSQL', async (t) => {
  const server = await start(t, LOCKED)
  const address = await startProxy(t, '127.0.0.1', server.port)
  const settings = {
    REDIS_HOST: '127.0.0.1',
    REDIS_PORT: address.port,
    REDIS_PASSWORD: PASSWORD,
    REDIS_DB: 0
  }
  const service = await startService(t, settings)
  await service.register()
  const replicas = [service, await startService(t, { ...settings, POSTGRES_DB: service.database })]
  await fanOut(t, replicas, 'before')
  for (const [how, fail] of [
    ['away', address.cut],
    ['silent', async () => address.freeze()]
  ] as const) {
    await fail()
    await tellAll(t, replicas, how)
    await waitUntil('nobody relies on Redis', () => !replicas.some(({ app }) => app.room.channel.isAnnounced))
    await tellAll(t, replicas, `still ${how}`)
    await address.mend()
    await fanOut(t, replicas, `not ${how} any more`)
  }
})

t.test('without the right to publish, each replica hears of changes from PostgreSQL', async (t) => {
  const server = await start(t, LOCKED)
  const setUser = (...rules: string[]) =>
    server.client.call('acl', 'setuser', 'chat', 'on', `>${PASSWORD}`, '~*', '+@all', ...rules)
  await setUser('resetchannels')
  const settings = { REDIS_URL: `redis://chat:${PASSWORD}@127.0.0.1:${server.port}` }
  const service = await startService(t, settings)
  await service.register()
  const replicas = [service, await startService(t, { ...settings, POSTGRES_DB: service.database })]
  const warnings = () =>
    replicas.map(({ logs }) => logs.map(({ msg }) => `${msg}`).filter((msg) => /^cannot announce/.test(msg)))
  await tellAll(t, replicas, 'without the right')
  await waitUntil('each has said so', () => warnings().every((lines) => lines.length > 0))
  await setUser('&*')
  await fanOut(t, replicas, 'with the right')
  await setUser('resetchannels', '-publish')
  await waitUntil('nobody relies on Redis', () => !replicas.some(({ app }) => app.room.channel.isAnnounced))
  await tellAll(t, replicas, 'without it again')
  for (const lines of warnings()) t.match(lines[0], /cannot announce changes .*NOPERM/)
  t.ok(
    warnings().every((lines) => lines.length <= 2),
    'the log says it once'
  )
})

/** What its log says of Redis, in the order of the lines. */
const saidOfRedis = (logs: Record<string, unknown>[]) =>
  logs
    .filter(({ level, msg }) => Number(level) < 50 && /^Redis/.test(String(msg)))
    .map(({ msg }) => String(msg))

t.test(
  'a master that is demoted, without a word to its clients, is left for the new one within 2 s',
  async (t) => {
    const old = await start(t, LOCKED)
    const next = await start(t, [...LOCKED, `replicaof 127.0.0.1 ${old.port}`])
    await waitForReplication(next.client)
    const address = await startProxy(t, '127.0.0.1', old.port)
    const { call, register, logs } = await startService(t, {
      REDIS_HOST: '127.0.0.1',
      REDIS_PORT: address.port,
      REDIS_PASSWORD: PASSWORD,
      REDIS_DB: 0,
      RATE_LIMIT: 'on'
    })
    const { token, nickname } = await register()
    await waitUntil(
      'the replica has the session',
      async () => (await next.client.exists(`session:${token}`)) === 1
    )

    await next.client.replicaof('NO', 'ONE')
    address.redirect(next.port)
    await old.client.replicaof('127.0.0.1', next.port)
    const demoted = performance.now()
    const statuses = new Set<number>()
    const areWell = async () => {
      const answers = await Promise.all([
        call('POST', '/api/messages', { token, body: { text: 'hello' } }),
        call('POST', '/api/login', { body: { nickname, password: 'correct horse' } }),
        call('GET', '/api/sessions', { token }),
        call('GET', '/health/readyz')
      ])
      for (const { status } of answers) statuses.add(status)
      return answers.every(({ status }) => status < 300)
    }
    await waitUntil('requests succeed again', areWell)
    t.ok(performance.now() - demoted < 2000, `well again after ${Math.round(performance.now() - demoted)} ms`)
    t.strictSame([...statuses].filter((status) => status !== 503).sort(), [200, 201], 'nobody was logged out')
    await waitUntil('the log says that it is over', () => saidOfRedis(logs).length > 1)
    t.match(saidOfRedis(logs), [/^Redis refuses .*: READONLY /, /^Redis .* again$/], 'the log says it once')
  }
)

const refusals: Record<
  string,
  { begin: (server: Server) => Promise<unknown>; end: (server: Server) => Promise<unknown>; reason: RegExp }
> = {
  'is a replica': {
    begin: async ({ client }) => client.replicaof('127.0.0.1', await freePort()),
    end: ({ client }) => client.replicaof('NO', 'ONE'),
    reason: /READONLY/
  },
  'is a replica that does not answer before it is in step': {
    begin: async ({ client }) => {
      await client.config('SET', 'replica-serve-stale-data', 'no')
      await client.replicaof('127.0.0.1', await freePort())
    },
    end: ({ client }) => client.replicaof('NO', 'ONE'),
    reason: /MASTERDOWN|READONLY/
  },
  'is full': {
    begin: ({ client }) => client.config('SET', 'maxmemory', 1),
    end: ({ client }) => client.config('SET', 'maxmemory', 0),
    reason: /OOM/
  },
  'misses its replicas': {
    begin: ({ client }) => client.config('SET', 'min-replicas-to-write', 1),
    end: ({ client }) => client.config('SET', 'min-replicas-to-write', 0),
    reason: /NOREPLICAS/
  },
  'cannot save': {
    begin: async ({ client, dir }) => {
      await client.config('SET', 'save', '3600 1')
      rmSync(dir, { recursive: true, force: true })
      await client.bgsave()
      await waitUntil('it has failed to save', async () =>
        /rdb_last_bgsave_status:err/.test(await client.info('persistence'))
      )
    },
    end: ({ client }) => client.config('SET', 'stop-writes-on-bgsave-error', 'no'),
    reason: /MISCONF/
  },
  'does not allow TIME any more': {
    begin: ({ client }) => client.call('acl', 'setuser', 'default', '-time'),
    end: ({ client }) => client.call('acl', 'setuser', 'default', '+time'),
    reason: /'time'/
  },
  'does not allow the keys of limits any more': {
    begin: ({ client }) => client.call('acl', 'setuser', 'default', 'resetkeys', '~session:*'),
    end: ({ client }) => client.call('acl', 'setuser', 'default', '~*'),
    reason: /NOPERM/
  }
}

for (const [name, { begin, end, reason }] of Object.entries(refusals)) {
  t.test(`a Redis that ${name}: 503, also at readyz, until it takes writes again`, async (t) => {
    const server = await start(t, LOCKED)
    const settings = {
      REDIS_HOST: '127.0.0.1',
      REDIS_PORT: server.port,
      REDIS_PASSWORD: PASSWORD,
      REDIS_DB: 0,
      RATE_LIMIT: 'on'
    } as const
    const { call, register, logs, database } = await startService(t, settings)
    const { token, nickname } = await register()
    const isReady = async () => (await call('GET', '/health/readyz')).status === 200
    t.ok(await isReady())

    await begin(server)
    for (let i = 0; i < 20; i++) {
      const asked = performance.now()
      const answers = await Promise.all([
        call('GET', '/health/readyz'),
        call('POST', '/api/messages', { token, body: { text: 'hello' } }),
        call('POST', '/api/login', { body: { nickname, password: 'correct horse' } }),
        call('POST', '/api/register', { body: { nickname: 'another', password: 'correct horse' } })
      ])
      t.ok(performance.now() - asked < 2000)
      for (const { status, body } of answers) {
        t.match(
          { status, body },
          { status: 503, body: { error: 'redis is not ready', code: 'redis_unavailable' } }
        )
      }
      t.equal((await call('GET', '/health/livez')).status, 200)
      t.equal((await call('GET', '/api/messages')).status, 200)
    }
    await t.rejects(
      startService(t, { ...settings, POSTGRES_DB: database, BOOT_TIMEOUT: 1 }),
      reason,
      'nor is it enough to start with'
    )
    t.match(saidOfRedis(logs), [new RegExp(`^Redis refuses .*${reason.source}`)], 'the log says it once')

    const mending = performance.now()
    await end(server)
    await waitUntil('it is ready again', isReady)
    t.equal((await call('POST', '/api/messages', { token, body: { text: 'hello' } })).status, 201)
    t.ok(performance.now() - mending < 2000, `well again after ${Math.round(performance.now() - mending)} ms`)
    await waitUntil('the log says that it is over', () => saidOfRedis(logs).length > 1)
    t.match(saidOfRedis(logs).slice(1), [/^Redis .* again$/], 'and that it has passed')
  })
}

t.test('a start waits for a replica to be promoted', async (t) => {
  const server = await start(t, [...LOCKED, `replicaof 127.0.0.1 ${await freePort()}`])
  const starting = startService(t, {
    REDIS_HOST: '127.0.0.1',
    REDIS_PORT: server.port,
    REDIS_PASSWORD: PASSWORD,
    REDIS_DB: 0
  })
  t.equal(await Promise.race([starting.then(() => 'started'), sleep(1500, 'waits')]), 'waits')
  await server.client.replicaof('NO', 'ONE')
  const { call } = await starting
  t.equal((await call('GET', '/health/readyz')).status, 200)
})

t.test('the documented Redis rights are enough, and a start without one of them names it', async (t) => {
  const server = await start(t, LOCKED)
  const documented =
    /^ACL SETUSER (.+)$/m.exec(
      readFileSync(new URL('../../docs/database.md', import.meta.url), 'utf8')
    )?.[1] ?? ''
  const [user = '', ...rules] = documented.split(' ')
  const setUser = (...more: string[]) =>
    server.client.call(
      'acl',
      'setuser',
      user,
      'reset',
      ...rules.map((rule) => (rule.startsWith('>') ? `>${PASSWORD}` : rule)),
      ...more
    )
  const settings = {
    REDIS_URL: `redis://${user}:${PASSWORD}@127.0.0.1:${server.port}`,
    RATE_LIMIT: 'on'
  } as const

  await setUser()
  const { call, register, post, logs, database } = await startService(t, settings)
  const { token, nickname } = await register()
  const { id } = await post(token, 'hello')
  t.equal((await call('DELETE', `/api/messages/${id}`, { token })).status, 200)
  for (const password of ['correct horse', 'correct horse']) {
    t.equal((await call('POST', '/api/login', { body: { nickname, password } })).status, 200)
  }
  t.equal((await call('POST', '/api/login', { body: { nickname, password: 'wrong horse' } })).status, 401)
  t.equal((await call('GET', '/api/sessions', { token })).body.length, 3)
  t.equal((await call('DELETE', '/api/sessions', { token })).status, 204)
  t.equal(
    (
      await call('PUT', '/api/password', {
        token,
        body: { currentPassword: 'correct horse', newPassword: 'another horse' }
      })
    ).status,
    204
  )
  t.equal((await call('POST', '/api/logout', { token })).status, 204)
  t.equal((await call('GET', '/health/readyz')).status, 200)
  t.strictSame(
    logs.filter(({ level }) => Number(level) > 30),
    []
  )

  const commands = rules.filter((rule) => rule.startsWith('+')).map((rule) => rule.slice(1))
  for (const command of commands.filter(
    (command) => !/^(ping|select|info|publish|subscribe|client|hello)/.test(command)
  )) {
    await setUser(`-${command.replace('|', ' ').split(' ')[0]!}`)
    const failure = startService(t, { ...settings, POSTGRES_DB: database, BOOT_TIMEOUT: 30 })
    await t.rejects(
      failure,
      new RegExp(`^Redis does not allow ${command.split('|')[0]!.toUpperCase()}[ ,]`),
      command
    )
  }
  for (const [pattern, without] of [
    ['session:*', '~chat-backend:*'],
    ['chat-backend:*', '~session:*']
  ] as const) {
    await setUser('resetkeys', without)
    await t.rejects(
      startService(t, { ...settings, POSTGRES_DB: database, BOOT_TIMEOUT: 30 }),
      { message: pattern.replace('*', '') },
      pattern
    )
  }
})

t.test(
  'with a hundred thousand sessions, ten users end their other ones at once, and two change their passwords',
  async (t) => {
    const server = await start(t, LOCKED)
    const { call, register, post } = await startService(t, {
      REDIS_HOST: '127.0.0.1',
      REDIS_PORT: server.port,
      REDIS_PASSWORD: PASSWORD,
      REDIS_DB: 0,
      RATE_LIMIT: 'on'
    })
    const users = await Promise.all(Array.from({ length: 12 }, () => register()))
    const reader = await register()
    // As the Go service makes them, of strangers and of these users.
    const fill =
      "for i = ARGV[1], ARGV[2] do redis.call('SET', 'session:' .. redis.sha1hex(i), ARGV[3 + i % (#ARGV - 2)], 'EX', 86400) end"
    const strangers = Array.from({ length: 500 }, (_, i) => 1_000_000 + i)
    for (let from = 0; from < 100_000; from += 10_000) {
      await server.client.eval(fill, 0, from, from + 9999, ...strangers)
    }
    await server.client.eval(fill, 0, 200_000, 201_199, ...users.map(({ userId }) => userId))
    const timed = async (request: Promise<{ status: number }>) => {
      const started = performance.now()
      const { status } = await request
      return { status, took: Math.round(performance.now() - started) }
    }
    const [changing, ending] = [users.slice(0, 2), users.slice(2)]
    const answers = Promise.all([
      ...ending.map(({ token }) => timed(call('DELETE', '/api/sessions', { token }))),
      ...changing.map(({ token }) =>
        timed(
          call('PUT', '/api/password', {
            token,
            body: { currentPassword: 'correct horse', newPassword: 'another horse' }
          })
        )
      )
    ])
    t.ok((await post(reader.token, 'hello')).id, 'and others post meanwhile')
    for (const { status, took } of await answers) {
      t.equal(status, 204)
      t.ok(took < 3000, `${took} ms`)
    }
    t.equal((await server.client.dbsize()) >= 100_000, true, "nobody else's has ended")
    for (const { userId, token } of users) {
      t.equal((await call('GET', '/api/sessions', { token })).body.length, 1, `${userId} is logged in here`)
    }
    const owners = new Set(users.map(({ userId }) => `${userId}`))
    const left: string[] = []
    for await (const keys of server.client.scanStream({ match: 'session:*', count: 1000 })) {
      const found = keys.length === 0 ? [] : await server.client.mget(keys)
      left.push(...(found.filter((owner) => owners.has(owner ?? '')) as string[]))
    }
    t.strictSame(left.sort(), [...owners].sort(), 'and nowhere else')
  }
)
