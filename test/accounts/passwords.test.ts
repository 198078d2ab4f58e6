import { randomInt } from 'node:crypto'
import { EventEmitter, once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { availableParallelism } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { createPasswords, MAX_WAITING } from '../../src/accounts/passwords.ts'
import { Busy, ClientGone } from '../../src/errors/catalogue.ts'
import { counterKey } from '../../src/redis/rate-limiter.ts'
import { startService } from '../helpers/app.ts'
import { openRedis } from '../helpers/database.ts'
import { waitUntil } from '../helpers/raw.ts'

const threads = Math.max(1, availableParallelism() - 1)
const never = new AbortController().signal
const client = { address: '192.0.2.1', signal: never }

t.test('the queue is bounded, and no work is done for clients that gave up', async (t) => {
  const passwords = createPasswords(4)
  t.teardown(passwords.close)
  const working = Array.from({ length: threads }, () => passwords.hash('x', client))
  const impatient = new AbortController()
  const waiting = Array.from({ length: MAX_WAITING }, (_, i) =>
    passwords.verify('x', undefined, i === 0 ? { ...client, signal: impatient.signal } : client)
  )
  // All of it at once, before the first one is hashed.
  const refusals = [
    t.rejects(passwords.hash('x', client), Busy),
    t.rejects(passwords.verify('x', undefined, client), Busy)
  ]
  impatient.abort()
  refusals.push(t.rejects(waiting.shift()!, ClientGone))
  const instead = passwords.hash('x', client) // in the place that became free
  refusals.push(
    t.rejects(passwords.hash('x', client), Busy),
    t.rejects(passwords.hash('x', { ...client, signal: AbortSignal.abort() }), ClientGone)
  )
  await Promise.all(refusals)
  for (const hash of await Promise.all([...working, instead])) t.match(hash, /^\$2b\$04\$.{53}$/)
  t.strictSame(new Set(await Promise.all(waiting)), new Set([false]))
  t.ok(await passwords.verify('x', await passwords.hash('x', client), client), 'and it goes on')
})

t.test('addresses take turns, and one that fills the queue makes way for others', async (t) => {
  const passwords = createPasswords(4)
  t.teardown(passwords.close)
  const order: string[] = []
  const hash = (address: string) =>
    passwords.hash('x', { address, signal: never }).then(() => {
      order.push(address)
    })
  const greedy = Promise.allSettled(Array.from({ length: threads + MAX_WAITING }, () => hash('greedy')))
  await Promise.all([hash('modest'), hash('modest')])
  t.ok(order.indexOf('modest') <= 2 * threads, `the first after ${order.indexOf('modest')} others`)
  t.ok(order.lastIndexOf('modest') <= 5 * threads, `the second after ${order.lastIndexOf('modest')} others`)
  const refused = (await greedy).filter(({ status }) => status === 'rejected')
  t.equal(refused.length, 2)
  for (const result of refused) t.match(result, { reason: Busy })
})

t.test('an error in a thread fails only one password, and the next one works', async (t) => {
  const passwords = createPasswords(99) // a cost that bcrypt does not know
  t.teardown(passwords.close)
  await t.rejects(Promise.all(Array.from({ length: threads + 1 }, () => passwords.hash('x', client))))
  t.notOk(await passwords.verify('x', '$2b$04$' + '.'.repeat(53), client))
})

t.test('threads have a low priority, and end', { skip: process.platform !== 'linux' }, async (t) => {
  const nice = () =>
    readdirSync('/proc/self/task')
      .map((id) => {
        try {
          return readFileSync(`/proc/self/task/${id}/stat`, 'latin1').split(') ').at(-1)!.split(' ')[16]
        } catch {
          return undefined
        }
      })
      .filter((value) => value === '10').length
  await waitUntil('the threads of earlier tests are gone', () => nice() === 0)
  const passwords = createPasswords(4)
  await Promise.all(Array.from({ length: threads + 1 }, () => passwords.hash('x', client)))
  t.equal(nice(), threads)
  await passwords.close()
  await waitUntil('these are gone, too', () => nice() === 0)
})

t.test(
  'under too many logins the queue refuses with Retry-After, skips closed connections, and reads go on',
  async (t) => {
    const { call, url, app } = await startService(t, { BCRYPT_COST: 8 })
    const nobody = { nickname: 'nobody', password: 'correct horse' }
    const storm = Promise.all(
      Array.from({ length: MAX_WAITING * 3 }, () => call('POST', '/api/login', { body: nobody }))
    )
    t.equal((await call('GET', '/api/messages')).status, 200)
    const answers = await storm
    const refused = answers.filter(({ status }) => status === 503)
    t.ok(refused.length > 0)
    t.equal(answers.filter(({ status }) => status === 401).length, answers.length - refused.length)
    for (const { body, headers } of refused) {
      t.match(body, { error: 'service is busy, try again soon', code: 'busy' })
      t.match(headers.get('retry-after'), /^\d+$/)
    }

    const body = JSON.stringify(nobody)
    const arrivals = new EventEmitter().setMaxListeners(0)
    app.server.on('request', ({ headers }) => arrivals.emit(`${headers['x-request-id']}`))
    const send = async (id: string, connection = 'keep-alive') => {
      const socket = connect(Number(new URL(url).port), '127.0.0.1')
      await once(socket, 'connect')
      const arrived = once(arrivals, id)
      socket.write(
        `POST /api/login HTTP/1.1\r\nhost: x\r\nx-request-id: ${id}\r\nconnection: ${connection}\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`
      )
      await arrived
      return socket
    }
    for (const socket of await Promise.all(
      Array.from({ length: MAX_WAITING }, (_, i) => send(`left-${i}`))
    )) {
      socket.destroy()
    }
    t.equal((await call('POST', '/api/login', { body: nobody })).status, 401)

    const socket = await send('last', 'close')
    const [[answer]] = await Promise.all([once(socket, 'data'), app.close()])
    t.match(`${answer}`, /^HTTP\/1\.1 401 /, 'a shutdown finishes what has begun')
  }
)

t.test('two addresses that flood logins with ten accounts each do not keep a third one out', async (t) => {
  const { call, logs } = await startService(t, {
    BCRYPT_COST: 8,
    RATE_LIMIT: 'on',
    TRUST_PROXY: '127.0.0.1'
  })
  const newAddress = () => `10.${randomInt(256)}.${randomInt(256)}.${randomInt(256)}`
  const post = (path: string, address: string, nickname: string) =>
    call('POST', path, {
      body: { nickname, password: 'correct horse' },
      headers: { 'x-forwarded-for': address, 'x-request-id': nickname.replaceAll(' ', '-') }
    })
  const [third, ...others] = [newAddress(), newAddress(), newAddress()]
  await post('/api/register', third, 'third')
  const storm = { isOver: false }
  const attackers = others.flatMap((address, i) =>
    Array.from({ length: 10 }, async (_, n) => {
      const nickname = `user ${i} ${n}`
      await post('/api/register', address, nickname)
      await Promise.all(
        Array.from({ length: 10 }, async () => {
          // Whoever is refused comes back a moment later: the queue is full all the same, and the test has
          // time for the others.
          while (!storm.isOver) {
            if ((await post('/api/login', address, nickname)).status !== 200) await sleep(50)
          }
        })
      )
    })
  )
  const logins = () =>
    logs
      .filter(({ route, status }) => route === '/api/login' && status === 200)
      .map(({ requestId }) => requestId)
  await waitUntil('twenty have logged in', () => logins().length >= 20, 60_000)
  for (let i = 0; i < 6; i++) t.equal((await post('/api/login', third, 'third')).status, 200)
  storm.isOver = true
  await Promise.all(attackers)
  const turns = logins()
    .join(' ')
    .split(/ ?third ?/)
    .slice(1, -1)
    .map((between) => between.split(' ').length)
  // A few while its next request is on its way, and one of each address while it waits.
  t.ok(
    turns.every((others) => others < MAX_WAITING / 4),
    `between its logins there were ${turns.join()} of the others`
  )
})

t.test('logins of clients that have gone away are not hashed', async (t) => {
  const { app, url, logs } = await startService(t, { BCRYPT_COST: 12, RATE_LIMIT: 'on' })
  const redis = openRedis(t)
  const nickname = `nobody ${randomInt(2 ** 40)}`
  const body = JSON.stringify({ nickname, password: 'correct horse' })
  const request = `POST /api/login HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`
  const arrivals = new EventEmitter().setMaxListeners(0)
  app.server.on('request', ({ socket }) => arrivals.emit(`${socket.remotePort}`))
  const send = async (count: number) => {
    const socket = connect(Number(new URL(url).port), '127.0.0.1')
    await once(socket, 'connect')
    const arrived = once(arrivals, `${socket.localPort}`)
    socket.write(request.repeat(count))
    await arrived
    return socket
  }
  const sockets = await Promise.all([95, ...Array<number>(9).fill(3)].map(send))
  // Some may be hashed already before the last of them waits.
  await waitUntil('most of them wait', () => app.passwords.queue.waiting >= sockets.length - 3 * threads)
  for (const socket of sockets) socket.resetAndDestroy()
  await waitUntil('nothing is hashed', () => app.passwords.queue.running + app.passwords.queue.waiting === 0)
  // What was not hashed has told nothing about the password, so it does not count as a failed login.
  const counted = () => redis.zcard(counterKey('failed-logins-by-account', ['127.0.0.1', nickname]))
  await waitUntil('only what was hashed is counted', async () => (await counted()) <= 3 * threads)
  // Of requests: what has to do with the load of the machine is something else.
  t.strictSame(
    logs.filter(({ level, requestId }) => Number(level) > 30 && requestId !== undefined),
    []
  )
})
