import { randomBytes, randomInt } from 'node:crypto'
import t from 'tap'
import { persist, startService } from '../helpers/app.ts'
import { config, connect, openRedis } from '../helpers/database.ts'
import { printable } from '../helpers/printable.ts'
import { startProxy } from '../helpers/proxy.ts'
import { waitUntil } from '../helpers/raw.ts'

const password = 'correct horse'
const sentences = {
  body_invalid: 'invalid JSON payload',
  nickname_missing: 'nickname and password must be provided',
  nickname_too_long: 'nickname is too long',
  nickname_invalid: 'nickname must be a string without invisible or unassigned characters or stacked marks',
  password_missing: 'nickname and password must be provided',
  password_too_short: 'password must have at least 8 characters',
  password_too_long: 'password must have at most 72 bytes',
  password_too_common: 'password is too common, choose another one',
  password_invalid: 'password must be a string'
}

t.test('registration answers with the account and a session as the Go service knows it', async (t) => {
  const { call } = await startService(t)
  const { status, body } = await call('POST', '/api/register', {
    body: { nickname: 'alice', password, unknown: true }
  })
  t.equal(status, 201)
  t.match(body, { userId: Number, nickname: 'alice', token: /^[0-9a-f]{64}$/ })
  t.equal(body.id, body.userId)
  t.strictSame(Object.keys(body).sort(), ['id', 'nickname', 'token', 'userId'])

  const redis = openRedis(t)
  t.equal(await redis.get(`session:${body.token}`), `${body.userId}`)
  const ttl = await redis.ttl(`session:${body.token}`)
  t.ok(ttl > 86_300 && ttl <= 86_400, `24 hours to live, not ${ttl} s`)
})

t.test('a registration succeeds after the sequence of ids was set back', async (t) => {
  const { call, register, database } = await startService(t)
  const { userId } = await register()
  const client = await connect(t, database)
  await client.query(
    "insert into chat_user (nickname, password_hash, created_at) select 'old ' || n, '', now() from generate_series(1, 20) n"
  )
  await client.query("select setval(pg_get_serial_sequence('chat_user', 'id'), $1, false)", [userId])
  const answers = await Promise.all(
    ['alice', 'bob', 'old 7'].map((nickname) =>
      call('POST', '/api/register', { body: { nickname, password } })
    )
  )
  t.match(answers, [{ status: 201 }, { status: 201 }, { status: 409, body: { code: 'nickname_taken' } }])
})

t.test('a registration that gets no new id is a 503', async (t) => {
  const { call, database } = await startService(t)
  const client = await connect(t, database)
  await client.query("alter table chat_user add column email text unique default ''")
  const register = (nickname: string) => call('POST', '/api/register', { body: { nickname, password } })
  t.equal((await register('alice')).status, 201)
  t.match(await register('bob'), { status: 503, body: { code: 'database_unavailable' } })
})

t.test('a registration whose result was lost is undone, so that it can be repeated', async (t) => {
  const proxy = await startProxy(t, config.POSTGRES_HOST!, config.POSTGRES_PORT)
  const { call, database } = await startService(t, {
    POSTGRES_HOST: '127.0.0.1',
    POSTGRES_PORT: proxy.port
  })
  const [holder, watcher] = [await connect(t, database), await connect(t, database)]
  const alice = { nickname: 'alice', password }
  await holder.query('begin; lock table chat_user_skeleton')
  const registering = call('POST', '/api/register', { body: alice })
  const waiting = `select from pg_stat_activity where datname = current_database()
    and wait_event = 'relation' and query like '%chat_user_register%'`
  await waitUntil('it waits', async () => (await watcher.query(waiting)).rowCount !== 0)
  proxy.blackhole() // The statement is with the server; its answer will not come back.
  await holder.query('commit')
  t.match(await registering, { status: 503, body: { code: 'database_unavailable' } })
  t.equal((await call('POST', '/api/register', { body: alice })).status, 201)
  t.equal((await watcher.query('select from chat_user')).rowCount, 1)
})

t.test('passwords are stored as bcrypt hashes at cost 10', async (t) => {
  const { call, database } = await startService(t, { BCRYPT_COST: 10 })
  await call('POST', '/api/register', { body: { nickname: 'alice', password } })
  const {
    rows: [row]
  } = await (await connect(t, database)).query('select password_hash from chat_user')
  t.match(row.password_hash, /^\$2b\$10\$.{53}$/)
})

t.test('nicknames are stored trimmed and normalised', async (t) => {
  const { call } = await startService(t)
  const register = (nickname: unknown) => call('POST', '/api/register', { body: { nickname, password } })

  for (const [given, stored] of [
    ['  bob\t', 'bob'],
    ['Zoe\u0308', 'Zo\u00eb'],
    ['Мария Ивановна', 'Мария Ивановна'],
    ['😀'.repeat(64), '😀'.repeat(64)],
    [' '.repeat(100) + 'x'.repeat(64), 'x'.repeat(64)],
    ['lone \ud800', 'lone \ufffd'],
    ['สวัสดี', 'สวัสดี'],
    ['הַיְשִׁיבָה', 'הַיְשִׁיבָה'.normalize('NFC')],
    ['مُحَمَّدٌ', 'مُحَمَّدٌ'.normalize('NFC')],
    ['नमस्ते', 'नमस्ते'],
    ['བསྐྱེད', 'བསྐྱེད'],
    ['Việt Nam', 'Việt Nam'],
    ['👍🏽 🇩🇪', '👍🏽 🇩🇪'],
    ['⠃⠗⠇', '⠃⠗⠇'],
    ['two\u3000words', 'two\u3000words'],
    [`z${'\u0335'.repeat(4)}`, `z${'\u0335'.repeat(4)}`],
    ['__proto__', '__proto__']
  ]) {
    const { status, body } = await register(given)
    t.equal(status, 201, printable(given))
    t.equal(body.nickname, stored)
  }
})

t.test('nicknames that are missing, too long or partly invisible are refused', async (t) => {
  const { call } = await startService(t)
  const register = (nickname: unknown) => call('POST', '/api/register', { body: { nickname, password } })

  for (const [nickname, code] of [
    [undefined, 'nickname_missing'],
    [null, 'nickname_missing'],
    ['', 'nickname_missing'],
    [' \n ', 'nickname_missing'],
    [' \u0085', 'nickname_missing'],
    ['😀'.repeat(65), 'nickname_too_long'],
    ['a\u0000b', 'nickname_invalid'],
    ['a\u200eb', 'nickname_invalid'],
    ['\u202eevil', 'nickname_invalid'],
    ...[
      '\u200b',
      '\u200d',
      '\u00ad',
      '\u2060',
      '\ufe0f',
      '\u034f',
      '\u3164',
      '\u115f',
      '\uffa0',
      '\u2800',
      '\u{13440}',
      '\u{13441}',
      '\u{13442}',
      '\u180b',
      '\u17b4',
      '\u{e0100}',
      '\u{e0041}',
      '\ue000',
      '\u{10fffd}',
      '\u0378',
      '\uffff',
      '\u{50000}',
      '\ufff9',
      '\u{1d159}'
    ].flatMap(
      (hidden) =>
        [
          [hidden, 'nickname_invalid'],
          [`admin${hidden}x`, 'nickname_invalid']
        ] as const
    ),
    ...['\ufeff', '\u2028', '\u2029', '\t', '\n'].map(
      (space) => [`admin${space}x`, 'nickname_invalid'] as const
    ),
    ['\u0301', 'nickname_invalid'],
    ['\u0301a', 'nickname_invalid'],
    ['a \u0301', 'nickname_invalid'],
    ['\u0e31', 'nickname_invalid'],
    [`z${'\u0335'.repeat(5)}`, 'nickname_invalid'],
    [`e${'\u0301'.repeat(60)}`, 'nickname_invalid'],
    [5, 'nickname_invalid'],
    [['alice'], 'nickname_invalid'],
    [{ toString: 'alice' }, 'nickname_invalid']
  ] as const) {
    t.match(
      await register(nickname),
      { status: 400, body: { error: sentences[code], code } },
      printable(nickname)
    )
  }
})

t.test('passwords at registration: 8 code points to 72 bytes', async (t) => {
  const { call } = await startService(t)
  let n = 0
  const register = (password: unknown) =>
    call('POST', '/api/register', { body: { nickname: `user ${++n}`, password } })

  for (const password of [
    'x'.repeat(8),
    '😀'.repeat(8),
    'x'.repeat(72),
    'я'.repeat(36),
    ' '.repeat(8),
    'nul\u0000inside'
  ]) {
    t.equal((await register(password)).status, 201, JSON.stringify(password))
    const { status } = await call('POST', '/api/login', { body: { nickname: `user ${n}`, password } })
    t.equal(status, 200, 'and it logs in')
  }
  for (const [password, code] of [
    [undefined, 'password_missing'],
    [null, 'password_missing'],
    ['', 'password_missing'],
    ['x'.repeat(7), 'password_too_short'],
    ['😀'.repeat(7), 'password_too_short'],
    ['x'.repeat(73), 'password_too_long'],
    ['я'.repeat(37), 'password_too_long'],
    [12345678, 'password_invalid'],
    ['password', 'password_too_common'],
    ['PassWord1', 'password_too_common'],
    ['letmein', 'password_too_short']
  ] as const) {
    t.match(
      await register(password),
      { status: 400, body: { error: sentences[code], code } },
      JSON.stringify(password)
    )
  }
})

t.test('the minimum length of a password is configurable', async (t) => {
  const { call } = await startService(t, { PASSWORD_MIN_LENGTH: 12 })
  const { status, body } = await call('POST', '/api/register', {
    body: { nickname: 'alice', password: 'x'.repeat(11) }
  })
  t.equal(status, 400)
  t.equal(body.error, 'password must have at least 12 characters')
})

t.test('of a hundred simultaneous registrations of one nickname, one succeeds', async (t) => {
  const { call, database } = await startService(t)
  const body = { nickname: 'everyone', password }
  const answers = await Promise.all(
    Array.from({ length: 100 }, () => persist(() => call('POST', '/api/register', { body })))
  )
  t.equal(answers.filter(({ status }) => status === 201).length, 1)
  const refused = answers.filter(({ status }) => status === 409)
  t.equal(refused.length, 99)
  for (const { body } of refused) {
    t.match(body, { error: 'nickname is already taken', code: 'nickname_taken' })
  }
  const { rows } = await (await connect(t, database)).query('select id from chat_user')
  t.equal(rows.length, 1)
})

t.test('login', async (t) => {
  const { call } = await startService(t)
  const { body: account } = await call('POST', '/api/register', { body: { nickname: 'Zo\u00eb', password } })
  const login = (body: unknown) => call('POST', '/api/login', { body })

  for (const nickname of ['Zo\u00eb', 'Zoe\u0308', ' Zo\u00eb ']) {
    const { status, body } = await login({ nickname, password })
    t.equal(status, 200, JSON.stringify(nickname))
    t.match(body, { userId: account.userId, nickname: 'Zo\u00eb', token: /^[0-9a-f]{64}$/ })
    t.strictSame(Object.keys(body).sort(), ['nickname', 'token', 'userId'])
    t.not(body.token, account.token)
  }
  for (const [nickname, wrong] of [
    ['Zo\u00eb', 'wrong horse'],
    ['zo\u00eb', password],
    ['nobody', password],
    ['Zo\u00eb', 'x'],
    ['Zo\u00eb\u0000', password],
    ['x'.repeat(5000), password],
    ['Zo\u00eb', 'x'.repeat(10_000)]
  ]) {
    const { status, headers, body } = await login({ nickname, password: wrong })
    t.equal(status, 401, JSON.stringify([nickname, wrong]).slice(0, 80))
    t.match(body, { error: 'invalid credentials', code: 'invalid_credentials' })
    t.equal(headers.get('www-authenticate'), 'Bearer')
  }
  for (const [body, code] of [
    [{}, 'nickname_missing'],
    [{ password }, 'nickname_missing'],
    [{ nickname: '', password }, 'nickname_missing'],
    [{ nickname: 'Zo\u00eb' }, 'password_missing'],
    [{ nickname: 'Zo\u00eb', password: '' }, 'password_missing'],
    [{ nickname: 'Zo\u00eb', password: null }, 'password_missing'],
    [{ nickname: 7, password }, 'nickname_invalid'],
    [{ nickname: 'Zo\u00eb', password: 7 }, 'password_invalid'],
    [[], 'body_invalid']
  ] as const) {
    t.match(await login(body), { status: 400, body: { error: sentences[code], code } }, JSON.stringify(body))
  }
})

t.test(
  'a nickname that is too long to be one is refused at once, and logging in with it is a failed login',
  async (t) => {
    const { call } = await startService(t, { RATE_LIMIT: 'on', TRUST_PROXY: '127.0.0.1, ::1' })
    // Whose limits no other test uses.
    const headers = { 'x-forwarded-for': `10.13.${randomInt(256)}.${randomInt(256)}` }
    const tooLong = [
      '\u0300'.repeat(15_900) + '\u0316'.repeat(15_900),
      'x'.repeat(60_000),
      '😀'.repeat(300),
      '\u0323\u0307'.repeat(257)
    ]
    for (const [i, nickname] of tooLong.entries()) {
      const name = JSON.stringify(nickname.slice(0, 4))
      const before = process.cpuUsage()
      const login = await call('POST', '/api/login', { body: { nickname, password }, headers })
      t.match(
        login,
        { status: 401, body: { error: 'invalid credentials', code: 'invalid_credentials' } },
        name
      )
      t.match(
        login.headers.get('ratelimit'),
        new RegExp(`"failed-logins-by-address";r=${99 - i};`),
        'it counts'
      )
      const register = await call('POST', '/api/register', { body: { nickname, password }, headers })
      t.match(register, { status: 400, body: { error: 'nickname is too long' } }, name)
      const { user, system } = process.cpuUsage(before)
      t.ok(user + system < 500_000, `that took ${Math.round((user + system) / 1000)} ms of CPU`)
    }
  }
)

t.test('failed logins count for the account, however its nickname is typed', async (t) => {
  const { call } = await startService(t, { RATE_LIMIT: 'on', TRUST_PROXY: '127.0.0.1, ::1' })
  const headers = { 'x-forwarded-for': `10.14.${randomInt(256)}.${randomInt(256)}` }
  const nickname = `${randomBytes(8).toString('hex')} \ufffd\ufffd\ufffd\ufffd`
  t.equal((await call('POST', '/api/register', { body: { nickname, password }, headers })).status, 201)
  const spelled = (n: number) =>
    nickname.replaceAll('\ufffd', () => ['\0', '\ufffd', '\ud800'][n++ % 3] ?? '').padEnd(40 + n)
  const login = (n: number) =>
    call('POST', '/api/login', { body: { nickname: spelled(n), password: 'wrong horse' }, headers })
  for (let n = 0; n < 10; n++) t.equal((await login(n)).status, 401)
  for (let n = 10; n < 14; n++) t.equal((await login(n)).status, 429, JSON.stringify(spelled(n)))
})

t.test('a password of 72 bytes does not log in with a longer one that starts with it', async (t) => {
  const { call } = await startService(t)
  const long = 'x'.repeat(72)
  await call('POST', '/api/register', { body: { nickname: 'alice', password: long } })
  t.equal((await call('POST', '/api/login', { body: { nickname: 'alice', password: long } })).status, 200)
  t.equal(
    (await call('POST', '/api/login', { body: { nickname: 'alice', password: `${long}y` } })).status,
    401
  )
})

t.test('users of the Go service can log in, with $2a$ hashes and unnormalised nicknames', async (t) => {
  const { call, database } = await startService(t)
  const client = await connect(t, database)
  // Made by golang.org/x/crypto/bcrypt: GenerateFromPassword([]byte("gopher-pass-1"), bcrypt.DefaultCost).
  const goHash = '$2a$10$KGYwO.eqWBU./k1GVNMPJ.ALVJQ6p45Sw2Q02Ak2cNTbiRNQkFkmG'
  const nicknames = ['gopher', ' spaced ', 'Zoe\u0308', 'a\u200eb']
  for (const nickname of nicknames) {
    await client.query('insert into chat_user (nickname, password_hash, created_at) values ($1, $2, now())', [
      nickname,
      goHash
    ])
    const { status, body } = await call('POST', '/api/login', {
      body: { nickname, password: 'gopher-pass-1' }
    })
    t.equal(status, 200, JSON.stringify(nickname))
    t.equal(body.nickname, nickname)
    t.equal((await call('POST', '/api/login', { body: { nickname, password: 'gopher-pass-2' } })).status, 401)
  }
  await client.query('alter table chat_user alter password_hash drop not null')
  for (const [nickname, hash] of [
    ['broken', 'no hash at all'],
    ['empty', ''],
    ['absent', null]
  ]) {
    await client.query('insert into chat_user (nickname, password_hash, created_at) values ($1, $2, now())', [
      nickname,
      hash
    ])
    t.match(
      await call('POST', '/api/login', { body: { nickname, password } }),
      { status: 401, body: { code: 'invalid_credentials' } },
      'a hash that is none lets nobody in'
    )
  }
})

t.test('a session of the Go service works here until it ends', async (t) => {
  const { call, register } = await startService(t)
  const { userId } = await register()
  const redis = openRedis(t)
  const token = randomBytes(32).toString('hex')
  const post = () => call('POST', '/api/messages', { token, body: { text: 'hello from Go' } })

  await redis.set(`session:${token}`, `${userId}`, 'EX', 86_400)
  t.equal((await post()).status, 201)
  for (const value of ['not a number', `${2 ** 53}`, '9007199254740993', '9223372036854775808']) {
    await redis.set(`session:${token}`, value, 'EX', 60)
    t.match(await post(), { status: 401, body: { error: 'session not found' } }, value)
  }
  await redis.set(`session:${token}`, '987654321', 'EX', 60)
  t.match(await post(), { status: 401, body: { error: 'user not found' } })
  await redis.del(`session:${token}`)
  t.match(await post(), { status: 401, body: { error: 'session not found' } })
})

t.test('logout ends the session and no other, and may be repeated', async (t) => {
  const { call, register } = await startService(t)
  const { token, nickname } = await register()
  const { body: other } = await call('POST', '/api/login', { body: { nickname, password } })

  for (const headers of [{}, { 'content-type': 'application/json' }]) {
    const { status, body } = await call('POST', '/api/logout', { token, headers })
    t.equal(status, 204)
    t.equal(body, undefined)
  }
  const post = (token: string) => call('POST', '/api/messages', { token, body: { text: 'still here?' } })
  t.match(await post(token), { status: 401, body: { error: 'session not found', code: 'session_not_found' } })
  t.equal((await post(other.token)).status, 201)

  t.match(await call('POST', '/api/logout'), {
    status: 401,
    body: { error: 'authorization header is missing' }
  })
  t.match(await call('POST', '/api/logout', { headers: { authorization: token } }), {
    status: 401,
    body: { error: "authorization header must be in the format 'Bearer <token>'" }
  })
})
