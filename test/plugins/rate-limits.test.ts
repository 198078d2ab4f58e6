import { randomBytes, randomInt } from 'node:crypto'
import { once } from 'node:events'
import { request as httpRequest } from 'node:http'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { Config } from '../../src/config.ts'
import { counterKey } from '../../src/redis/rate-limiter.ts'
import { type Service, startService } from '../helpers/app.ts'
import { config, createDatabase, openRedis } from '../helpers/database.ts'
import { startProxy } from '../helpers/proxy.ts'
import { waitUntil } from '../helpers/raw.ts'
import { alice, ask, folder, pathWith, startServer, withoutRedis } from '../helpers/server.ts'

// All tests share one Redis and one address, and limits count by address: each test has addresses of its own,
// in the words of a trusted proxy.
const newAddress = () => `10.${randomInt(256)}.${randomInt(256)}.${randomInt(256)}`
const password = 'correct horse'

const startLimited = (t: Test, overrides: Partial<Config> = {}): Promise<Service> =>
  startService(t, { RATE_LIMIT: 'on', TRUST_PROXY: '127.0.0.1, ::1', ...overrides })

const login = ({ call }: Service, address: string, nickname: string, password: string) =>
  call('POST', '/api/login', { body: { nickname, password }, headers: { 'x-forwarded-for': address } })
const register = ({ call }: Service, address: string, nickname: string, password: string) =>
  call('POST', '/api/register', { body: { nickname, password }, headers: { 'x-forwarded-for': address } })

/** Moves what was counted so far, or the first of it, into the past, as if that time had gone by. */
async function passTime(
  t: Test,
  policy: string,
  subject: Parameters<typeof counterKey>[1],
  seconds: number,
  first = 1000
): Promise<void> {
  const redis = openRedis(t)
  const key = counterKey(policy, subject)
  if (policy === 'writes') {
    // The time when all is back. What has come back already is forgotten.
    const full = Math.max(Number(await redis.get(key)), Number((await redis.time())[0]) * 1000)
    await redis.set(key, full - seconds * 1000)
  } else {
    for (const id of await redis.zrangebyscore(key, '-inf', '+inf', 'LIMIT', 0, first)) {
      await redis.zincrby(key, -seconds * 1000, id)
    }
  }
}

t.test('failed logins: ten in 15 minutes for an account and an address', async (t) => {
  const service = await startLimited(t)
  const [address, elsewhere] = [newAddress(), newAddress()]
  const {
    body: { userId }
  } = await register(service, address, 'Zo\u00eb', password)
  for (let i = 0; i < 12; i++) {
    t.equal(
      (await login(service, address, 'Zo\u00eb', password)).status,
      200,
      'logins that succeed do not count'
    )
  }
  // However it is spelled: it is the same account.
  for (const [i, nickname] of [
    'Zo\u00eb',
    ' Zo\u00eb',
    'Zoe\u0308',
    'Zo\u00eb\t',
    'Zo\u00eb',
    '  Zo\u00eb',
    'Zo\u00eb',
    'Zo\u00eb ',
    'Zo\u00eb',
    'Zo\u00eb'
  ].entries()) {
    const { status, headers } = await login(service, address, nickname, 'wrong horse')
    t.equal(status, 401, `${i + 1}`)
    t.match(
      headers.get('ratelimit'),
      new RegExp(
        `^"failed-logins-by-account";r=${9 - i};t=(900|8\\d\\d), "failed-logins-by-address";r=${99 - i};t=(3600|35\\d\\d)$`
      )
    )
  }
  for (const word of ['wrong horse', password]) {
    const { status, headers, body } = await login(service, address, 'Zo\u00eb', word)
    t.equal(status, 429, 'then even the right password is refused')
    t.match(body, { error: 'too many requests, try again later', code: 'rate_limited' })
    t.match(headers.get('retry-after'), /^(900|8\d\d)$/)
    t.match(
      headers.get('ratelimit'),
      /^"failed-logins-by-account";r=0;t=(900|8\d\d), "failed-logins-by-address";r=90;t=(3600|35\d\d)$/
    )
    t.equal(
      headers.get('ratelimit-policy'),
      '"failed-logins-by-account";q=10;w=900, "failed-logins-by-address";q=100;w=3600'
    )
  }
  t.equal(
    (await login(service, address, 'another', 'wrong horse')).status,
    401,
    'another account is another matter'
  )
  t.equal((await login(service, elsewhere, 'Zo\u00eb', password)).status, 200, 'and so is another address')

  await passTime(t, 'failed-logins-by-account', [address, userId], 15 * 60, 1)
  t.equal(
    (await login(service, address, 'Zo\u00eb', 'wrong horse')).status,
    401,
    'when the first failure is 15 minutes old, there is one more'
  )
  t.equal((await login(service, address, 'Zo\u00eb', password)).status, 429, 'and no second')
  await passTime(t, 'failed-logins-by-account', [address, userId], 15 * 60)
  t.equal((await login(service, address, 'Zo\u00eb', password)).status, 200)
})

t.test('failed logins: a hundred in an hour for an address', async (t) => {
  const service = await startLimited(t)
  const address = newAddress()
  await register(service, address, 'alice', password)
  const failures = await Promise.all(
    Array.from({ length: 100 }, (_, i) => login(service, address, `nobody ${i % 20}`, 'wrong horse'))
  )
  t.equal(failures.filter(({ status }) => status === 401).length, 100)
  const { status, headers } = await login(service, address, 'alice', password)
  t.equal(status, 429)
  t.match(
    headers.get('retry-after'),
    /^(3600|35\d\d)$/,
    'the time of the limit that was reached, not of the other'
  )
  await passTime(t, 'failed-logins-by-address', address, 60 * 60)
  t.equal((await login(service, address, 'alice', password)).status, 200)
})

t.test('of thirty simultaneous wrong passwords on two replicas, ten are checked', async (t) => {
  const one = await startLimited(t)
  const other = await startLimited(t, { POSTGRES_DB: one.database })
  const address = newAddress()
  const answers = await Promise.all(
    Array.from({ length: 30 }, (_, i) => login(i % 2 ? one : other, address, 'alice', `wrong ${i}`))
  )
  t.equal(answers.filter(({ status }) => status === 401).length, 10)
  t.equal(answers.filter(({ status }) => status === 429).length, 20)
})

t.test(
  'wrong passwords count together, at the login and where the password is changed, however the nickname is spelled',
  async (t) => {
    const service = await startLimited(t)
    for (const [i, order] of ['login first', 'change first', 'by turns'].entries()) {
      const address = newAddress()
      const {
        body: { token }
      } = await register(service, address, `Zo\u00eb ${i}`, password)
      const change = (currentPassword: string) =>
        service.call('PUT', '/api/password', {
          token,
          body: { currentPassword, newPassword: 'another horse' },
          headers: { 'x-forwarded-for': address }
        })
      const guesses = Array.from({ length: 10 }, (_, n) => {
        const isLogin = { 'login first': n < 5, 'change first': n >= 5, 'by turns': n % 2 === 0 }[order]
        return isLogin
          ? () => login(service, address, n < 5 ? `Zo\u00eb ${i}` : ` Zoe\u0308 ${i}`, 'wrong horse')
          : () => change('wrong horse')
      })
      for (const [n, guess] of guesses.entries()) {
        const { status, headers, body } = await guess()
        t.match(
          { status, body },
          { status: 401, body: { error: 'invalid credentials' } },
          `${order}: guess ${n + 1}`
        )
        t.match(headers.get('ratelimit'), `"failed-logins-by-account";r=${9 - n};`)
      }
      for (const word of ['wrong horse', password]) {
        t.equal((await change(word)).status, 429, `${order}: no more at the change`)
        t.equal(
          (await login(service, address, `Zo\u00eb ${i}`, word)).status,
          429,
          `${order}: nor at the login`
        )
      }
      t.equal(
        (await login(service, newAddress(), `Zo\u00eb ${i}`, password)).status,
        200,
        'from elsewhere the account is open'
      )
    }
  }
)

t.test(
  'a nickname that nobody has counts as it is looked for, and one that is too long counts as well',
  async (t) => {
    const service = await startLimited(t)
    for (const [name, spell] of [
      ['spaces', (n) => `${' '.repeat(n)}nobody${' '.repeat(n % 3)}`],
      ['normal forms', (n) => (n % 2 ? 'nobody is Zo\u00eb' : 'nobody is Zoe\u0308')],
      [
        'characters that PostgreSQL or UTF-8 does not know',
        (n) => `nobody${['\0', '\ufffd', '\ud800', '\udfff'][n % 4]}`
      ],
      ['such ones mixed', (n) => [0, 1, 2, 3].map((bit) => ((n >> bit) & 1 ? '\0' : '\ufffd')).join('')],
      ['too long', (n) => `${'x'.repeat(65)}${' '.repeat(n)}`],
      ['far too long', (n) => `${'\u0300'.repeat(15_900)}${'\u0316'.repeat(15_000)}${' '.repeat(n)}`]
    ] as [string, (n: number) => string][]) {
      const address = newAddress()
      for (let n = 0; n < 10; n++) {
        const { status, headers } = await login(service, address, spell(n), 'wrong horse')
        t.equal(status, 401, `${name}, ${n + 1}`)
        t.match(headers.get('ratelimit'), `"failed-logins-by-address";r=${99 - n};`)
      }
      t.equal((await login(service, address, spell(10), 'wrong horse')).status, 429, name)
    }
  }
)

t.test('responses to wrong passwords do not reveal whether the account exists', async (t) => {
  const service = await startLimited(t)
  await register(service, newAddress(), 'alice', password)
  const answers = async (nickname: string) => {
    const address = newAddress()
    const all: unknown[] = []
    for (let i = 0; i < 12; i++) {
      const { status, headers, body } = await login(service, address, nickname, 'wrong horse')
      const isRelied = (name: string) =>
        /^(ratelimit|ratelimit-policy|www-authenticate|content-length)$/.test(name)
      const relied = [...headers]
        .filter(([name]) => isRelied(name))
        .map(([name, value]) => [name, value.replace(/t=\d+/g, 't')])
      all.push([status, body.error, body.code, relied])
    }
    return all
  }
  t.strictSame(await answers('alice'), await answers('nobody'))
})

t.test('logins: sixty in an hour for an account, from any address, on all replicas', async (t) => {
  const service = await startLimited(t)
  const replica = await startLimited(t, { POSTGRES_DB: service.database })
  const {
    body: { userId }
  } = await register(service, newAddress(), 'alice', password)
  await register(service, newAddress(), 'bob', password)
  const address = newAddress()
  const logins = async (count: number) => {
    const statuses: number[] = []
    // Five at a time, because a login counts as a failure until its password was looked at.
    for (let i = 0; i < count; i += 5) {
      const some = Array.from({ length: 5 }, (_, n) =>
        login(n % 2 ? service : replica, i % 10 ? address : newAddress(), 'alice', password)
      )
      statuses.push(...(await Promise.all(some)).map(({ status }) => status))
    }
    return statuses
  }
  for (let i = 0; i < 5; i++) {
    t.equal(
      (await login(service, newAddress(), 'alice', 'wrong horse')).status,
      401,
      'what is refused does not count'
    )
  }
  const { headers: first } = await login(service, address, 'alice', password)
  t.match(
    first.get('ratelimit'),
    /^"failed-logins-by-account";r=10;t=\d+, "failed-logins-by-address";r=100;t=\d+, "logins";r=59;t=(3600|35\d\d)$/
  )
  t.equal(
    first.get('ratelimit-policy'),
    '"failed-logins-by-account";q=10;w=900, "failed-logins-by-address";q=100;w=3600, "logins";q=60;w=3600'
  )
  t.strictSame(new Set(await logins(55)), new Set([200]))
  // The last four, at once with some that are too many.
  const last = await logins(10)
  t.strictSame(
    [200, 429].map((status) => last.filter((other) => other === status).length),
    [4, 6]
  )

  const elsewhere = newAddress()
  const { status, headers, body } = await login(service, elsewhere, 'alice', password)
  t.match(
    { status, body },
    { status: 429, body: { error: 'too many requests, try again later', code: 'rate_limited' } }
  )
  t.match(headers.get('retry-after'), /^(3600|35\d\d)$/)
  t.match(headers.get('ratelimit'), /"logins";r=0;t=(3600|35\d\d)$/)
  t.equal(
    (await login(service, elsewhere, 'alice', 'wrong horse')).status,
    401,
    'a wrong password learns nothing of it'
  )
  for (let i = 0; i < 8; i++) t.equal((await login(service, elsewhere, 'alice', password)).status, 429)
  t.match(
    (await login(service, elsewhere, 'alice', password)).headers.get('ratelimit'),
    /^"failed-logins-by-account";r=0;/,
    'and what is refused is not hashed without end'
  )
  t.equal((await login(service, address, 'bob', password)).status, 200, 'another account is another matter')

  await passTime(t, 'logins', userId, 60 * 60)
  t.equal((await login(service, newAddress(), 'alice', password)).status, 200)
})

t.test('listing and ending sessions: thirty a minute for each session', async (t) => {
  const service = await startLimited(t)
  const { call } = service
  const address = newAddress()
  const {
    body: { token }
  } = await register(service, address, 'alice', password)
  const {
    body: { token: stolen }
  } = await login(service, address, 'alice', password)
  const manage = async (token: string) => {
    const statuses = await Promise.all(
      Array.from({ length: 13 }, async (_, i) => [
        (await call('GET', '/api/sessions', { token })).status,
        (await call('DELETE', `/api/sessions/${i}`, { token })).status,
        (
          await call('PUT', '/api/password', {
            token,
            body: { currentPassword: password, newPassword: 'short' },
            headers: { 'x-forwarded-for': address }
          })
        ).status
      ])
    )
    return statuses.flat()
  }
  const statuses = await manage(stolen)
  t.equal(statuses.filter((status) => status !== 429).length, 30)
  const { headers, body } = await call('DELETE', '/api/sessions', { token: stolen })
  t.equal(body.code, 'rate_limited')
  t.match(headers.get('retry-after'), /^(60|[1-5]\d)$/)
  t.equal(headers.get('ratelimit-policy'), '"session-management";q=30;w=60')

  t.equal(
    (await call('DELETE', '/api/sessions', { token })).status,
    204,
    'whoever stole a token cannot keep its owner from ending it'
  )
  t.equal((await call('GET', '/api/sessions', { token: stolen })).status, 401)
})

t.test('registrations: sixty in an hour for an address', async (t) => {
  const service = await startLimited(t)
  const address = newAddress()
  t.equal(
    (await register(service, address, 'short', 'short')).status,
    400,
    'what is refused as it stands does not count'
  )
  const answers = await Promise.all(
    Array.from({ length: 60 }, (_, i) => register(service, address, `user ${i}`, password))
  )
  t.equal(answers.filter(({ status }) => status === 201).length, 60)
  const { status, headers, body } = await register(service, address, 'one more', password)
  t.equal(status, 429)
  t.equal(body.code, 'rate_limited')
  t.match(headers.get('retry-after'), /^(3600|35\d\d)$/)
  t.equal(headers.get('ratelimit-policy'), '"registrations";q=60;w=3600')
  t.equal((await register(service, newAddress(), 'one more', password)).status, 201)
  await passTime(t, 'registrations', address, 60 * 60)
  t.equal((await register(service, address, 'later', password)).status, 201)
})

t.test('writes: a burst of ten, then five a second, for each user', async (t) => {
  const service = await startLimited(t)
  const { call } = service
  const {
    body: { token, userId }
  } = await register(service, newAddress(), 'alice', password)
  const {
    body: { token: bob }
  } = await register(service, newAddress(), 'bob', password)
  const post = (token: string) => call('POST', '/api/messages', { token, body: { text: 'hello' } })

  const started = performance.now()
  const answers = await Promise.all(Array.from({ length: 40 }, () => post(token)))
  const flowedBack = Math.floor((performance.now() - started) / 200)
  const posted = answers.filter(({ status }) => status === 201)
  t.ok(posted.length >= 10 && posted.length <= 10 + flowedBack, `${posted.length} were posted`)
  t.ok(posted.some(({ headers }) => /^"writes";r=9;t=1$/.test(headers.get('ratelimit') ?? '')))
  const { headers, body } = answers.find(({ status }) => status === 429)!
  t.equal(body.code, 'rate_limited')
  t.equal(headers.get('retry-after'), '1')
  t.equal(headers.get('ratelimit'), '"writes";r=0;t=1')
  t.equal(headers.get('ratelimit-policy'), '"writes";q=10;w=2')
  t.equal((await post(bob)).status, 201, 'another user is another matter')

  // From here on with a time to come, so that nothing flows back while the test runs.
  await passTime(t, 'writes', userId, -3600)
  t.equal((await post(token)).status, 429)
  t.equal((await call('GET', '/api/messages')).status, 200, 'reading is never limited')
  await passTime(t, 'writes', userId, 3600 + 2)
  t.equal((await post(token)).status, 201, 'after two seconds all are back')
})

t.test(
  'posts, edits and deletes share one budget, on all replicas, and count before a body is read',
  async (t) => {
    const one = await startLimited(t)
    const other = await startLimited(t, { POSTGRES_DB: one.database })
    const {
      body: { token, userId }
    } = await register(one, newAddress(), 'alice', password)
    const ids: number[] = []
    for (let i = 0; i < 10; i++) ids.push((await one.post(token, `message ${i}`)).id)
    await passTime(t, 'writes', userId, 2)

    const write = async (n: number) => {
      const { call } = n % 2 ? one : other
      const path = `/api/messages/${ids[n % 10]!}`
      if (n % 3 === 0) return call('PATCH', path, { token, body: { text: `edited ${n}` } })
      if (n % 3 === 1) return call('DELETE', path, { token })
      return call('POST', '/api/messages', { token, body: { text: 'hello' } })
    }
    const started = performance.now()
    const answers = await Promise.all(Array.from({ length: 60 }, (_, n) => write(n)))
    const flowedBack = Math.floor((performance.now() - started) / 200)
    const refused = answers.filter(({ status }) => status === 429)
    const counted = answers.length - refused.length
    t.ok(counted >= 10 && counted <= 10 + flowedBack, `${counted} were let through`)
    for (const { headers, body } of refused) {
      t.equal(body.code, 'rate_limited')
      t.match(headers.get('retry-after'), /^[12]$/)
      t.match(headers.get('ratelimit'), /^"writes";r=0;t=[12]$/)
      t.equal(headers.get('ratelimit-policy'), '"writes";q=10;w=2')
    }

    await passTime(t, 'writes', userId, -3600)
    for (const method of ['POST', 'PATCH', 'DELETE']) {
      const path = method === 'POST' ? '/api/messages' : `/api/messages/${ids[0]!}`
      t.equal(
        (await one.call(method, path, { token, raw: 'no JSON' })).status,
        429,
        `${method}: whatever the body is`
      )
      const request = httpRequest(`${one.url}${path}`, {
        method,
        headers: {
          authorization: `Bearer ${token}`,
          'content-type': 'application/json',
          'content-length': 1000
        }
      })
      request.on('error', () => {}).flushHeaders()
      const [{ statusCode }] = await once(request, 'response')
      t.equal(statusCode, 429, `${method}: before the body has come`)
      request.destroy()
    }
  }
)

t.test('a forged X-Forwarded-For is ignored', async (t) => {
  const nickname = randomBytes(8).toString('hex')
  const untrusting = await startLimited(t, { TRUST_PROXY: '10.1.2.3' })
  // The address that all tests have, and some of them have failed logins from it.
  const forget = () => passTime(t, 'failed-logins-by-address', '127.0.0.1', 3600)
  await forget()
  t.teardown(forget)
  for (let i = 0; i < 10; i++) {
    t.equal((await login(untrusting, newAddress(), nickname, 'wrong horse')).status, 401)
  }
  t.equal(
    (await login(untrusting, newAddress(), nickname, 'wrong horse')).status,
    429,
    'from a peer that is not trusted'
  )

  const trusting = await startLimited(t)
  const address = newAddress()
  for (let i = 0; i < 10; i++) {
    t.equal((await login(trusting, `${newAddress()}, ${address}`, nickname, 'wrong horse')).status, 401)
  }
  t.equal(
    (await login(trusting, `${newAddress()}, ${address}`, nickname, 'wrong horse')).status,
    429,
    'before the address that the proxy saw'
  )
})

t.test('one client stays one client, however a trusted proxy spells its address', async (t) => {
  const service = await startLimited(t)
  const [c, d] = [randomInt(256), randomInt(1, 256)]
  const hex = `cb00:${(c * 256 + d).toString(16)}`
  const nickname = randomBytes(8).toString('hex')
  const network = `2001:db8:${randomInt(0x10000).toString(16)}:${randomInt(0x10000).toString(16)}`
  for (const [name, spellings] of [
    [
      'IPv4',
      [
        `203.0.${c}.${d}`,
        `203.0.${c}.${d}:1234`,
        `203.0.${c}.${d}:1235`,
        `::ffff:${hex}`,
        `::ffff:203.0.${c}.${d}`,
        `[::ffff:${hex}]:80`,
        `6.6.6.6, 203.0.${c}.${d}`
      ]
    ],
    [
      'IPv6',
      [
        `${network}::1`,
        `[${network}::1]:1234`,
        `[${network}::2]`,
        `${network.toUpperCase()}:1:2:3:4`,
        `${network}::9`
      ]
    ],
    // These leave the proxy's own address, which all tests share, so a nickname of its own tells them apart.
    ['no address', ['unknown', '_hidden7', '_hidden8', '203.0.113.077', '203.0.113.078', 'x'.repeat(5000)]]
  ] as const) {
    const account = `${nickname} ${name}`
    for (let i = 0; i < 10; i++) {
      t.equal(
        (await login(service, spellings[i % spellings.length]!, account, 'wrong horse')).status,
        401,
        `${name}, ${i + 1}`
      )
    }
    for (const spelling of spellings) {
      t.equal((await login(service, spelling, account, 'wrong horse')).status, 429, spelling.slice(0, 40))
    }
  }
  await passTime(t, 'failed-logins-by-address', '127.0.0.1', 3600)
})

t.test('RATE_LIMIT=off turns all rate limits off', async (t) => {
  const service = await startLimited(t, { RATE_LIMIT: 'off' })
  const address = newAddress()
  const {
    body: { token }
  } = await register(service, address, 'alice', password)
  for (let i = 0; i < 11; i++) {
    const { status, headers } = await login(service, address, 'alice', 'wrong horse')
    t.equal(status, 401)
    t.equal(headers.get('ratelimit'), null)
  }
  const posts = await Promise.all(
    Array.from({ length: 20 }, () =>
      service.call('POST', '/api/messages', { token, body: { text: 'hello' } })
    )
  )
  t.equal(posts.filter(({ status }) => status === 201).length, 20)
})

t.test('a request that cannot be counted is a 503, and a failed request is not counted', async (t) => {
  const proxy = await startProxy(t, config.REDIS_HOST!, config.REDIS_PORT)
  const service = await startLimited(t, { REDIS_HOST: '127.0.0.1', REDIS_PORT: proxy.port })
  const address = newAddress()
  const {
    body: { token }
  } = await register(service, address, 'alice', password)
  await proxy.cut()
  for (const answer of await Promise.all([
    login(service, address, 'alice', password),
    register(service, address, 'bob', password),
    service.call('POST', '/api/messages', { token, body: { text: 'hello' } })
  ])) {
    t.match(answer, { status: 503, body: { error: 'redis is not ready' } })
  }
  await proxy.mend()
  await waitUntil('readyz is 200', async () => (await service.call('GET', '/health/readyz')).status === 200)

  await service.app.pg.pool.query('alter table chat_user rename to gone')
  t.equal((await login(service, address, 'alice', password)).status, 503)
  t.equal((await register(service, address, 'carol', password)).status, 503)
  await service.app.pg.pool.query('alter table gone rename to chat_user')
  t.match(
    (await login(service, address, 'alice', 'wrong horse')).headers.get('ratelimit'),
    /^"failed-logins-by-account";r=9;/
  )
  t.match(
    (await register(service, address, 'carol', password)).headers.get('ratelimit'),
    /^"registrations";r=58;/
  )
})

t.test('limits and sessions work on js-redis-server, and after its restart', async (t) => {
  const env = {
    POSTGRES_HOST: config.POSTGRES_HOST!,
    POSTGRES_PORT: `${config.POSTGRES_PORT}`,
    POSTGRES_USER: config.POSTGRES_USER,
    POSTGRES_PASSWORD: config.POSTGRES_PASSWORD,
    POSTGRES_DB: await createDatabase(t),
    DATA_DIR: join(folder(t), 'data'),
    PATH: pathWith(t, withoutRedis)
  }
  const first = startServer(t, env)
  const url = await first.ready
  t.match(first.log.join('\n'), 'a reimplementation of Redis')
  const {
    body: { token }
  } = await ask(url, '/api/register', undefined, alice)
  const {
    body: { token: other }
  } = await ask(url, '/api/login', undefined, alice)
  const posts = await Promise.all(
    Array.from({ length: 40 }, () => ask(url, '/api/messages', token, { text: 'hello' }))
  )
  t.ok(posts.filter(({ status }) => status === 201).length >= 10)
  t.ok(posts.some(({ status }) => status === 429))
  const { status, body: sessions } = await ask(url, '/api/sessions', token)
  t.equal(status, 200)
  t.equal(sessions.length, 2)
  const wrong = { ...alice, password: 'wrong horse' }
  for (let i = 0; i < 9; i++) t.equal((await ask(url, '/api/login', undefined, wrong)).status, 401)
  first.child.kill('SIGTERM')
  t.equal(await first.exited, 0)

  const second = startServer(t, env)
  const later = await second.ready
  const { body } = await ask(later, '/api/sessions', token)
  t.strictSame(
    body.map(({ id, createdAt }: { id: string; createdAt: string }) => [id, createdAt]).sort(),
    sessions.map(({ id, createdAt }: { id: string; createdAt: string }) => [id, createdAt]).sort()
  )
  t.equal((await ask(later, '/api/login', undefined, alice)).status, 200)
  t.equal((await ask(later, '/api/login', undefined, wrong)).status, 401, 'the tenth')
  t.match(await ask(later, '/api/login', undefined, alice), { status: 429, body: { code: 'rate_limited' } })
  t.equal(
    (
      await fetch(`${later}/api/sessions`, {
        method: 'DELETE',
        headers: { authorization: `Bearer ${token}` }
      })
    ).status,
    204
  )
  t.equal((await ask(later, '/api/sessions', other)).status, 401)
  t.equal((await ask(later, '/api/sessions', token)).body.length, 1)
})
