import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { waitUntil } from '../../helpers/raw.ts'
import { post } from '../../load/scenarios.ts'
import { type Attacker, SECOND_ADDRESS } from '../attacker.ts'
import { bearer, count, http } from '../requests.ts'
import { row, type Stage } from '../row.ts'

const DAY_SECONDS = 24 * 60 * 60

const login = (nickname: string, password = 'wrong password') => post('/api/login', { nickname, password })
const changePassword = (token: string, currentPassword: string, newPassword = 'another password') => ({
  ...post('/api/password', { currentPassword, newPassword }, token),
  method: 'PUT'
})

/** Writes sessions to Redis as the Go service does, and describes them as this service does. */
async function addSessions({ redis }: Stage, userId: number, number: number): Promise<void> {
  const now = Date.now()
  for (let left = number; left > 0; left -= 1000) {
    const pipeline = redis.pipeline()
    for (let n = 0; n < Math.min(1000, left); n++) {
      const token = randomBytes(32).toString('hex')
      pipeline.set(`session:${token}`, userId, 'EX', DAY_SECONDS)
      pipeline.zadd(`chat-backend:user-sessions:${userId}`, now + DAY_SECONDS * 1000, token)
      pipeline.set(`chat-backend:session-seen:${token}`, now, 'EX', DAY_SECONDS)
    }
    await pipeline.exec()
  }
}

/**
 * Asks the same again and again. @returns how often each status was the answer, and the time of the slowest
 * in ms
 */
async function askAgain(attacker: Attacker, places: number, request: Parameters<Attacker['ask']>[0]) {
  const answers: number[] = []
  let slowestMs = 0
  await Promise.all(
    Array.from({ length: places }, async () => {
      while (!attacker.isOver) {
        const asked = performance.now()
        const { status } = await attacker.ask(request)
        answers.push(status)
        slowestMs = Math.max(slowestMs, performance.now() - asked)
        if (status === 429) await sleep(100)
      }
    })
  )
  return { answers: count(answers), slowestMs: Math.round(slowestMs) }
}

/** One client, in as many ways as `X-Forwarded-For` can spell it. */
const CLIENTS: Record<string, (n: number) => string[]> = {
  'an IPv4 address': (n) => [
    '203.0.113.7',
    `203.0.113.7:${1024 + n}`,
    ` 203.0.113.7:${2048 + n} `,
    '::ffff:203.0.113.7',
    '::ffff:cb00:7107',
    '0:0:0:0:0:FFFF:CB00:7107',
    `[::ffff:203.0.113.7]:${1024 + n}`,
    `198.51.100.${n}, 203.0.113.7`
  ],
  'a network of IPv6': (n) => [
    `2001:db8:7:7::${n + 1}`,
    `[2001:db8:7:7::${n + 1}]`,
    `[2001:db8:7:7::${n + 1}]:${1024 + n}`,
    `2001:DB8:7:7:${n}::1`,
    `2001:0db8:0007:0007:0000:0000:0000:${(n + 16).toString(16)}`
  ],
  'no address at all': (n) => [
    'unknown',
    `_hidden${n}`,
    `203.0.113.0${n % 8}`,
    `203.0.113.${n}.1`,
    `${n}`,
    `2001:db8::${n}::1`,
    `[2001:db8:8:8::${n}`,
    `attacker-${n}.example`
  ]
}

/** Accounts, sessions and passwords. */
export const accounts = [
  row({
    name: 'nicknames of combining marks',
    sent: '16 connections with logins and registrations, whose nicknames are 31,800 combining marks (63 KB)',
    stops: 'lengths are checked before a text is normalised, which takes quadratic time',
    attack: async (attacker) => {
      const body = { nickname: '\u0300'.repeat(15_900) + '\u0316'.repeat(15_900), password: 'correct horse' }
      const answers: number[] = []
      await attacker.repeat(16, async (n) => {
        const { status } = await attacker.ask(post(n % 2 === 0 ? '/api/login' : '/api/register', body))
        if (!attacker.isOver) answers.push(status)
      })
      return count(answers)
    },
    expect: ({ t }, found) =>
      t.strictSame(Object.keys(found), ['400', '401', '429'], 'each is refused, and counted')
  }),

  row({
    name: 'listing thousands of sessions',
    sent: 'an account with 5,000 sessions that lists them on 10 connections',
    stops:
      'at most 100 sessions for an account; Redis is asked for all of them at once; 30 requests a minute for a session',
    prepare: async (stage) => {
      const [account] = await stage.register(1)
      await addSessions(stage, account!.userId, 5000)
      return account!.token
    },
    attack: (attacker, token) => askAgain(attacker, 10, { path: '/api/sessions', headers: bearer(token) }),
    expect: ({ t }, { answers, slowestMs }) => {
      t.strictSame(Object.keys(answers), ['200', '429'], 'each is answered or limited')
      t.ok(slowestMs <= 3000, `the slowest took ${slowestMs} ms`)
    }
  }),

  row({
    name: 'ending sessions among 100,000',
    sent: '10 `DELETE /api/sessions` at a time, with 100,000 sessions of others in Redis',
    stops: 'sessions are looked through by few large commands; 30 requests a minute for a session',
    prepare: async (stage) => {
      const [account] = await stage.register(1)
      await addSessions(stage, account!.userId + 1_000_000, 100_000)
      return account!.token
    },
    attack: (attacker, token) =>
      askAgain(attacker, 10, { method: 'DELETE', path: '/api/sessions', headers: bearer(token) }),
    expect: ({ t }, { answers, slowestMs }) => {
      t.strictSame(
        Object.keys(answers).filter((status) => !['204', '429'].includes(status)),
        [],
        'each is done or limited'
      )
      t.ok(slowestMs <= 3000, `the slowest took ${slowestMs} ms`)
    }
  }),

  row({
    name: 'a flood of successful logins',
    sent: '200 logins at a time with the right password, for ten accounts on each of two addresses',
    stops: 'addresses take turns in the queue for hashing; 60 logins an hour for an account',
    env: { BCRYPT_COST: '10' },
    connections: 200,
    prepare: ({ register }) => register(20),
    attack: async (attacker, people) => {
      const answers: number[] = []
      await attacker.repeat(200, async (n) => {
        const { nickname, password } = people[n % 20]!
        const how = n % 2 === 0 ? {} : { localAddress: SECOND_ADDRESS }
        answers.push((await attacker.ask(login(nickname, password), how)).status)
      })
      return count(answers)
    },
    expect: ({ t }, answers) =>
      t.ok((answers['200'] ?? 0) > 0, 'they work as well, while nobody else is slowed down')
  }),

  row({
    name: 'abandoned logins',
    sent: '95 pipelined logins from each of two addresses, whose connections are then closed or reset',
    stops: 'a connection has one request handled at a time; nothing is hashed for clients that have gone',
    env: { BCRYPT_COST: '10' },
    attack: async (attacker) => {
      const wires = [await attacker.open(), await attacker.open(SECOND_ADDRESS)]
      await Promise.all(
        wires.map(async (wire, i) => {
          const requests = Array.from({ length: 95 }, (_, n) =>
            http('POST', '/api/login', {
              body: JSON.stringify({ nickname: `nobody ${i} ${n}`, password: 'wrong password' })
            })
          )
          await wire.read().send(requests.join(''))
          await sleep(200)
          if (i === 0) wire.close()
          else wire.reset()
        })
      )
    },
    expect: async ({ t, metrics }) => {
      const left = performance.now()
      await waitUntil(
        'nothing is hashed any more',
        async () => {
          const queue = await metrics()
          return ['waiting', 'running'].every(
            (state) => queue.get(`chat_password_queue{state="${state}"}`) === 0
          )
        },
        30_000
      )
      const took = Math.round(performance.now() - left)
      t.ok(took < 1000, `nothing is hashed any more after ${took} ms`)
    }
  }),

  row({
    name: 'requests reset right after they are sent',
    sent: '20 accounts that change passwords, log in, register, post, edit and end sessions, and reset each connection at once',
    stops:
      'nothing is done for those who leave before they are accepted; what is needed of a client is read ' +
      'before anything is awaited; nothing that a client does to itself is a 5xx',
    prepare: ({ register }) => register(20),
    attack: async (attacker, people) => {
      let sent = 0
      await attacker.repeat(20, async (n) => {
        const { nickname, password, token } = people[n]!
        const headers = bearer(token)
        const json = (value: object) => JSON.stringify(value)
        const text = json({ text: 'hello' })
        const requests = [
          http('PUT', '/api/password', {
            headers,
            body: json({ currentPassword: 'wrong', newPassword: 'another one' })
          }),
          http('PUT', '/api/password', {
            headers,
            body: json({ currentPassword: password, newPassword: password })
          }),
          http('POST', '/api/login', { body: json({ nickname, password }) }),
          http('POST', '/api/register', { body: json({ nickname, password }) }),
          http('POST', '/api/messages', { headers, body: text }),
          http('PATCH', '/api/messages/1', { headers, body: text }),
          http('DELETE', '/api/sessions', { headers })
        ]
        const wire = await attacker.open()
        await wire.send(requests[sent++ % requests.length]!)
        if (sent % 3 !== 0) await sleep(Math.random() * 8)
        wire.reset()
        await wire.closed
      })
      return sent
    },
    expect: async ({ t, metrics, errors }) => {
      const requests = [...(await metrics()).keys()].filter((name) =>
        name.startsWith('http_request_duration_seconds_count')
      )
      t.strictSame(
        requests.filter((name) => /status="5\d\d"/.test(name)),
        [],
        'no answer is a 5xx'
      )
      t.strictSame(
        errors().map(({ msg }) => msg),
        [],
        'nothing is logged as an error'
      )
    }
  }),

  row({
    name: 'forged client addresses',
    sent: '60 guesses each from one IPv4 address, one IPv6 network and no valid address, in every spelling of `X-Forwarded-For`',
    stops:
      'an address counts in its canonical form, IPv6 by its /64; where none is valid, that of the connection counts',
    env: { TRUST_PROXY: '127.0.0.2' },
    prepare: async ({ register }) => (await register(3)).map(({ nickname }) => nickname),
    attack: async (attacker, nicknames) => {
      const guess = async ([client, spell]: [string, (n: number) => string[]], i: number) => {
        const statuses: number[] = []
        for (let n = 0; n < 60; n++) {
          const spellings = spell(n)
          const { headers, ...request } = login(nicknames[i]!)
          const forged = { ...headers, 'x-forwarded-for': spellings[n % spellings.length]! }
          statuses.push((await attacker.ask({ ...request, headers: forged })).status)
        }
        return [client, count(statuses)] as const
      }
      return Object.fromEntries(await Promise.all(Object.entries(CLIENTS).map(guess)))
    },
    expect: ({ t }, found) => {
      for (const client of Object.keys(CLIENTS)) {
        t.strictSame(found[client], { 401: 10, 429: 50 }, `${client} is one client`)
      }
    }
  }),

  row({
    name: 'one nickname in many spellings',
    sent: '27 guesses for a nickname of three U+FFFD, written as U+FFFD, U+0000 or a lone surrogate, and 20 with spaces around it',
    stops: 'failures are counted for the account that is looked up, not for what was typed',
    attack: async (attacker) => {
      const characters = ['\ufffd', '\0', '\udfff']
      const spellings = characters.flatMap((a) => characters.flatMap((b) => characters.map((c) => a + b + c)))
      const padded = Array.from({ length: 20 }, (_, n) => `${' '.repeat(n)}${spellings[n]}\t`)
      const statuses: number[] = []
      for (const nickname of [...spellings, ...padded]) {
        statuses.push((await attacker.ask(login(nickname))).status)
      }
      return count(statuses)
    },
    expect: ({ t }, found) => t.strictSame(found, { 401: 10, 429: 37 }, 'all of them are one account')
  }),

  row({
    name: 'password guesses over two routes',
    sent: '30 wrong passwords to `POST /api/login` and 30 to `PUT /api/password`, all at once',
    stops: 'both are counted together: 10 in 15 minutes for an account and an address',
    connections: 60,
    prepare: async ({ register }) => (await register(1))[0]!,
    attack: async (attacker, { nickname, token }) => {
      const guess = (n: number) =>
        n % 2 === 0 ? login(nickname, `guess ${n}`) : changePassword(token, `guess ${n}`)
      const answers = await Promise.all(Array.from({ length: 60 }, (_, n) => attacker.ask(guess(n))))
      return answers.filter(({ body }) => body.includes('invalid_credentials')).length
    },
    expect: ({ t }, found) => t.equal(found, 10, 'ten of them are looked at')
  }),

  row({
    name: 'guesses and registrations in bulk',
    sent: '150 wrong logins for as many accounts and 100 registrations from one address, 50 at a time',
    stops: '100 failed logins and 60 registrations in an hour, for an address',
    attack: async (attacker) => {
      const logins: number[] = []
      const registrations: number[] = []
      const left = Array.from({ length: 250 }, (_, n) => n)
      await Promise.all(
        Array.from({ length: 50 }, async () => {
          for (let n = left.pop(); n !== undefined; n = left.pop()) {
            const account = { nickname: `somebody ${n}`, password: 'correct horse' }
            if (n % 5 < 3) logins.push((await attacker.ask(post('/api/login', account))).status)
            else registrations.push((await attacker.ask(post('/api/register', account))).status)
          }
        })
      )
      return { logins: count(logins), registrations: count(registrations) }
    },
    expect: ({ t }, found) =>
      t.strictSame(found, { logins: { 401: 100, 429: 50 }, registrations: { 201: 60, 429: 40 } })
  })
]
