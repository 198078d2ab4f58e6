import { randomInt } from 'node:crypto'
import { EventEmitter, once } from 'node:events'
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { type Service, startService } from '../helpers/app.ts'
import { config } from '../helpers/database.ts'
import { startProxy } from '../helpers/proxy.ts'
import { waitUntil } from '../helpers/raw.ts'

const password = 'correct horse'

type Request = [method: string, path: string, token: string, body?: object]

/**
 * Starts the service behind wires that can be frozen, so that a request stands still where it asks an engine.
 */
async function setUp(t: Test, overrides = {}) {
  const wires = {
    postgres: await startProxy(t, config.POSTGRES_HOST!, config.POSTGRES_PORT),
    redis: await startProxy(t, config.REDIS_HOST!, config.REDIS_PORT)
  }
  const service = await startService(t, {
    POSTGRES_HOST: '127.0.0.1',
    POSTGRES_PORT: wires.postgres.port,
    REDIS_HOST: '127.0.0.1',
    REDIS_PORT: wires.redis.port,
    RATE_LIMIT: 'on',
    POSTGRES_POOL: 30,
    ...overrides
  })
  const unlimited = await startService(t, { POSTGRES_DB: service.database })
  const arrivals = new EventEmitter().setMaxListeners(0)
  // By a header: to ask for the address of a socket makes Node remember it.
  service.app.server.on('request', ({ headers, socket }) =>
    arrivals.emit(`${headers['x-request-id']}`, socket)
  )
  let count = 0

  /**
   * Sends a request, the body whole or in part.
   * @returns resets its connection, and resolves when the service has seen that
   */
  const send = async ([method, path, token, body]: Request, part = 1) => {
    // From an address of its own, because the limits count all that other tests do from the usual one.
    const from = `127.${randomInt(1, 256)}.${randomInt(256)}.${randomInt(1, 255)}`
    const socket = connect({
      host: '127.0.0.1',
      port: Number(new URL(service.url).port),
      localAddress: from
    }).on('error', () => {})
    await once(socket, 'connect')
    const id = `reset-${++count}`
    const arrived = once(arrivals, id)
    const payload = body && JSON.stringify(body)
    socket.write(
      `${method} ${path} HTTP/1.1\r\nhost: chat\r\nx-request-id: ${id}\r\nauthorization: Bearer ${token}\r\n` +
        (payload
          ? `content-type: application/json\r\ncontent-length: ${payload.length}\r\n\r\n${payload.slice(0, payload.length * part)}`
          : '\r\n')
    )
    const [there] = await arrived
    return async () => {
      const seen = there.destroyed ? undefined : new Promise((resolve) => there.once('close', resolve))
      socket.resetAndDestroy()
      await seen
    }
  }
  return { ...service, unlimited, wires, send }
}

/** What a client can ask for, each by a user of its own. */
async function requests({ call, post }: Service, round: string): Promise<Request[]> {
  const nickname = (n: number) => `${round} ${n}`
  const users = await Promise.all(
    Array.from(
      { length: 12 },
      async (_, n) =>
        (await call('POST', '/api/register', { body: { nickname: nickname(n), password } })).body
    )
  )
  const token = (n: number): string => users[n].token
  const { id } = await post(token(4), 'to be edited')
  const { id: other } = await post(token(5), 'to be deleted')
  return [
    ['POST', '/api/register', '', { nickname: `${round} new`, password }],
    ['POST', '/api/login', '', { nickname: nickname(0), password }],
    ['POST', '/api/login', '', { nickname: nickname(1), password: 'wrong horse' }],
    ['PUT', '/api/password', token(2), { currentPassword: password, newPassword: 'another horse' }],
    ['PUT', '/api/password', token(3), { currentPassword: 'wrong horse', newPassword: 'another horse' }],
    ['PATCH', `/api/messages/${id}`, token(4), { text: 'edited' }],
    ['DELETE', `/api/messages/${other}`, token(5)],
    ['POST', '/api/messages', token(6), { text: 'hello' }],
    ['GET', '/api/sessions', token(7)],
    ['DELETE', '/api/sessions', token(8)],
    ['DELETE', '/api/sessions/x', token(9)],
    ['POST', '/api/logout', token(10)],
    ['GET', `/api/messages?after_id=${other + 1000}&wait=20`, ''],
    ['GET', '/api/messages?before_id=2', ''],
    ['GET', '/api/events', ''],
    ['GET', '/health/readyz', ''],
    ['GET', '/api/openapi.json', '']
  ]
}

for (const TRUST_PROXY of [undefined, '127.0.0.0/8']) {
  t.test(
    `a client that resets its connection is no error, whatever it waits for; TRUST_PROXY is ${TRUST_PROXY}`,
    async (t) => {
      const service = await setUp(t, { ...(TRUST_PROXY && { TRUST_PROXY }), BCRYPT_COST: 6 })
      const { unlimited, wires, send, logs, call } = service
      for (const wire of ['redis', 'postgres', undefined] as const) {
        // However far a request has come by then: to its body, an engine, a password, or its answer.
        for (const ms of [0, 2, 10, 50, 200]) {
          const all = await requests(unlimited, `${wire ?? 'no wire'} ${ms}`)
          if (wire) wires[wire].freeze()
          const resets = await Promise.all(
            all.flatMap((request) => [send(request), send(request, 0), send(request, 0.5)])
          )
          await sleep(ms)
          await Promise.all(resets.map((reset) => reset()))
          if (wire) await wires[wire].mend()
          await waitUntil('it is ready', async () => (await call('GET', '/health/readyz')).status === 200)
        }
      }
      await service.app.close() // which waits for what is under way
      // On a machine with much to do, a wire is frozen for so long that it is an outage, which has nothing to
      // do with the client.
      const errors = logs
        .filter(({ level }) => Number(level) >= 50)
        .filter(({ msg }) => !/^(database|redis) is not ready$/.test(String(msg)))
      t.strictSame(errors, [])
    }
  )
}
