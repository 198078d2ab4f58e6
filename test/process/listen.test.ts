import { request } from 'node:http'
import { connect as dial, isIPv6 } from 'node:net'
import { networkInterfaces } from 'node:os'
import t, { type Test } from 'tap'
import { loadConfig } from '../../src/config.ts'
import { findHosts } from '../../src/process/listen.ts'
import { createDatabase } from '../helpers/database.ts'
import { waitUntil } from '../helpers/raw.ts'
import { alice, ask, externalEngines, folder, isOpen, startServer } from '../helpers/server.ts'
import { openStream } from '../helpers/stream.ts'

/** An address of this machine that other machines can reach, if it has one. */
const outside = (family: string) =>
  Object.values(networkInterfaces())
    .flat()
    .find((one) => one?.family === family && !one.internal && !one.address.startsWith('fe80'))?.address

/** On which addresses a service listens that was started so. */
async function listensOn(t: Test, env: Record<string, string>): Promise<Record<string, boolean>> {
  const server = startServer(t, env)
  const port = Number(new URL(await server.ready).port)
  t.equal((await ask(await server.ready, '/health/livez')).status, 200, 'the address in the log is one')
  const addresses = ['127.0.0.1', '127.0.0.2', '::1', outside('IPv4'), outside('IPv6')].filter(
    (address) => address !== undefined
  )
  const found = Object.fromEntries(
    await Promise.all(addresses.map(async (address) => [address, await isOpen(port, address)] as const))
  )
  server.child.kill('SIGTERM')
  t.equal(await server.exited, 0)
  return found
}

t.test(
  'with both engines embedded it listens on loopback, of IPv4 and IPv6, unless HTTP_HOST says otherwise',
  async (t) => {
    const everywhere = Object.fromEntries(
      ['127.0.0.1', '127.0.0.2', '::1', outside('IPv4'), outside('IPv6')].flatMap((address) =>
        address ? [[address, true]] : []
      )
    )
    const nowhere = Object.fromEntries(Object.keys(everywhere).map((address) => [address, false]))
    const loopback = { ...nowhere, '127.0.0.1': true, '::1': true }
    const ipv4 = Object.fromEntries(Object.keys(everywhere).map((address) => [address, !isIPv6(address)]))
    const { POSTGRES_HOST, ...redisOnly } = { ...externalEngines(), POSTGRES_DB: await createDatabase(t) }
    const all = { ...redisOnly, POSTGRES_HOST }
    const DATA_DIR = folder(t)
    for (const [what, env, expected] of [
      ['both embedded', { HTTP_HOST: '' }, loopback],
      ['both embedded, localhost', { HTTP_HOST: 'localhost' }, loopback],
      ['both embedded, 0.0.0.0', { HTTP_HOST: '0.0.0.0' }, ipv4],
      ['both embedded, ::', { HTTP_HOST: '::' }, everywhere],
      ['both embedded, [::1]', { HTTP_HOST: '[::1]' }, { ...nowhere, '::1': true }],
      ['PostgreSQL embedded', { HTTP_HOST: '', ...redisOnly }, everywhere],
      ['none embedded', { HTTP_HOST: '', ...all }, everywhere],
      ['none embedded, 127.0.0.1', { HTTP_HOST: '127.0.0.1', ...all }, { ...nowhere, '127.0.0.1': true }]
    ] as [string, Record<string, string>, Record<string, boolean>][]) {
      t.strictSame(await listensOn(t, { DATA_DIR, ...env }), expected, what)
    }
  }
)

t.test('without IPv6 it listens on IPv4', async (t) => {
  const probe =
    (...refused: string[]) =>
    async (host: string) => {
      if (refused.includes(host)) {
        throw Object.assign(new Error('refused'), { code: host === '::' ? 'EAFNOSUPPORT' : 'EADDRNOTAVAIL' })
      }
    }
  const external = loadConfig({ POSTGRES_HOST: 'db', REDIS_HOST: 'redis' })
  t.strictSame(await findHosts(external, probe()), ['::'])
  t.strictSame(await findHosts(external, probe('::')), ['0.0.0.0'])
  t.strictSame(await findHosts(loadConfig({}), probe('::1')), ['127.0.0.1'])
  t.strictSame(await findHosts(loadConfig({}), probe('127.0.0.1')), ['::1'])
  await t.rejects(
    findHosts(loadConfig({ HTTP_HOST: '::' }), probe('::')),
    { message: /^HTTP_HOST :: / },
    'what was asked for is not replaced'
  )
})

t.test(
  'both loopback addresses are one service: its limits count them together, and its end waits for both',
  async (t) => {
    const server = startServer(t, { DATA_DIR: folder(t), HTTP_HOST: '', SHUTDOWN_DELAY: '3' })
    const url = await server.ready
    const { port } = new URL(url)
    const other = `http://[::1]:${port}`
    const {
      body: { token }
    } = await ask(other, '/api/register', undefined, alice)
    t.equal((await ask(url, '/api/messages', token, { text: 'hello' })).status, 201)
    const stream = await openStream(t, other)
    const events = await openStream(t, url)
    await ask(other, '/api/messages', token, { text: 'to both' })
    await Promise.all([stream.events(1), events.events(1)])
    const waiting = ask(other, '/api/messages?after_id=1000&wait=25')
    const idle = dial(Number(port), '::1').on('error', () => {})

    server.child.kill('SIGTERM')
    await waitUntil('it drains', async () => (await ask(other, '/health/readyz')).status === 503)
    t.equal((await ask(other, '/api/messages', token, { text: 'still served' })).status, 201)
    t.match(await waiting, { status: 200, body: [] }, 'what waits is answered')
    await stream.ended
    t.match(stream.text(), /retry: \d+\n$/)
    t.equal(await server.exited, 0)
    idle.destroy()
  }
)

t.test('an IPv4 client is the same client when the service listens on IPv6 as well', async (t) => {
  const POSTGRES_DB = await createDatabase(t)
  const env = { ...externalEngines(), POSTGRES_DB, HTTP_HOST: '', TRUST_PROXY: '127.0.0.0/8' }
  const servers = [startServer(t, env), startServer(t, { ...env, HTTP_HOST: '0.0.0.0' })]
  const client = `203.0.113.${(process.pid % 250) + 1}`
  const failedLogin = async (url: string) =>
    new Promise<string>((resolve, reject) => {
      const body = JSON.stringify({ nickname: `nobody ${POSTGRES_DB}`, password: 'wrong' })
      const headers = { 'content-type': 'application/json', 'x-forwarded-for': client }
      request(`${url}/api/login`, { method: 'POST', headers, agent: false }, (response) => {
        resolve(String(response.headers['ratelimit']))
        response.resume()
      })
        .on('error', reject)
        .end(body)
    })
  const left: (string | undefined)[] = []
  for (const server of servers) {
    left.push(/failed-logins[^;]*;r=(\d+)/.exec(await failedLogin(await server.ready))?.[1])
  }
  t.strictSame(left, ['9', '8'], 'the proxy is believed on both, and both count the same client')
})
