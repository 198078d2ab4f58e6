import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import t, { type Test } from 'tap'
import { freePort } from '../../src/embedded/process.ts'
import { startService } from '../helpers/app.ts'
import { folder } from '../helpers/server.ts'

// Several real Redis servers: a master with a replica and their Sentinel, and a cluster of three. They need `redis-server` on the PATH.

const PASSWORD = 'not-so-secret'

interface Server { port: number, client: Redis, kill: () => Promise<void> }

/** Starts a server with that configuration, and waits until it answers. */
async function start (t: Test, lines: string[], mode: string[] = []): Promise<Server> {
  const port = await freePort()
  const dir = folder(t)
  const file = join(dir, 'redis.conf')
  writeFileSync(file, ['bind 127.0.0.1', `port ${port}`, `dir ${dir}`, ...lines].join('\n'))
  const child = spawn('redis-server', [file, ...mode], { stdio: 'ignore' })
  const exited = once(child, 'exit')
  const client = new Redis({ port, ...(mode.length === 0 && { password: PASSWORD }), retryStrategy: () => 20, maxRetriesPerRequest: null }).on('error', () => {})
  const kill = async () => {
    client.disconnect()
    child.kill('SIGKILL')
    await exited
  }
  t.teardown(kill)
  await client.ping()
  return { port, client, kill }
}

/** Asks until it is so. */
async function until (holds: () => Promise<boolean>): Promise<void> {
  while (!await holds().catch(() => false));
}

const LOCKED = [`requirepass ${PASSWORD}`, `masterauth ${PASSWORD}`, 'save ""']

t.test('with Sentinels, sessions outlive their master, and meanwhile nobody is logged out', async (t) => {
  const master = await start(t, LOCKED)
  const replica = await start(t, [...LOCKED, `replicaof 127.0.0.1 ${master.port}`])
  const sentinel = await start(t, [
    `sentinel monitor chat 127.0.0.1 ${master.port} 1`, `sentinel auth-pass chat ${PASSWORD}`,
    'sentinel down-after-milliseconds chat 500', 'sentinel failover-timeout chat 3000'
  ], ['--sentinel'])
  await until(async () => /role:slave[^]*master_link_status:up/.test(await replica.client.info('replication')))
  await until(async () => (await sentinel.client.call('sentinel', 'replicas', 'chat') as unknown[]).length === 1)

  const { call, register } = await startService(t, {
    REDIS_SENTINELS: `127.0.0.1:${await freePort()}, 127.0.0.1:${sentinel.port}`, REDIS_SENTINEL_NAME: 'chat', REDIS_PASSWORD: PASSWORD, RATE_LIMIT: 'on'
  })
  const { token } = await register()
  const post = async () => (await call('POST', '/api/messages', { token, body: { text: 'hello' } })).status

  t.equal(await post(), 201)
  await until(async () => await replica.client.exists(`session:${token}`) === 1) // A master answers before its replicas have it.
  await master.kill()
  let status = 503
  while (status === 503) status = await post()
  t.equal(status, 201, 'an answer is 503 until there is a master again')
  t.match(await replica.client.info('replication'), 'role:master', 'and that is the replica')
})

t.test('a cluster of three: all that sessions and limits do, and a node that is lost', async (t) => {
  const nodes = [await start(t, [...LOCKED, 'cluster-enabled yes']), await start(t, [...LOCKED, 'cluster-enabled yes']), await start(t, [...LOCKED, 'cluster-enabled yes'])]
  const [first, , last] = nodes
  for (const [i, { client }] of nodes.entries()) await client.call('cluster', 'addslotsrange', Math.ceil(i * 16384 / 3), Math.ceil((i + 1) * 16384 / 3) - 1)
  for (const { port } of nodes.slice(1)) await first!.client.call('cluster', 'meet', '127.0.0.1', port)
  for (const { client } of nodes) await until(async () => /cluster_state:ok[^]*cluster_known_nodes:3/.test(await client.call('cluster', 'info') as string))

  const { call, register } = await startService(t, { REDIS_CLUSTER_NODES: `127.0.0.1:${first!.port}`, REDIS_PASSWORD: PASSWORD, RATE_LIMIT: 'on' })
  const { nickname } = await register()
  const login = async (password: string) => call('POST', '/api/login', { body: { nickname, password } })
  // With thirty random keys, each of the three has some.
  const tokens: string[] = []
  for (let i = 0; i < 30; i++) tokens.push((await login('correct horse')).body.token)
  for (const { client } of nodes) t.not(await client.dbsize(), 0, 'each node has a part')
  for (const token of tokens.slice(0, 5)) t.equal((await call('POST', '/api/messages', { token, body: { text: 'hello' } })).status, 201)
  const [token = ''] = tokens
  t.equal((await call('GET', '/api/sessions', { token })).body.length, 31)

  for (let i = 0; i < 10; i++) t.equal((await login('wrong horse')).status, 401)
  t.equal((await login('wrong horse')).status, 429, 'a limit counts in a cluster, too')

  t.equal((await call('DELETE', '/api/sessions', { token })).status, 204)
  for (const other of tokens.slice(1)) t.equal((await call('GET', '/api/sessions', { token: other })).status, 401, 'every other session has ended, wherever it was')
  t.equal((await call('GET', '/api/sessions', { token })).body.length, 1)

  await last!.kill()
  const statuses = new Set<number>()
  await until(async () => {
    const { status } = await call('GET', '/api/sessions', { token })
    statuses.add(status)
    return status === 503
  })
  t.notOk(statuses.has(401), 'what cannot be asked is 503, and never 401')
  t.equal((await call('GET', '/api/messages')).status, 200, 'reading needs no Redis')
})
