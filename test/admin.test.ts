import { spawnSync } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { createServer } from 'node:net'
import { once } from 'node:events'
import t from 'tap'
import { freePort } from '../src/embedded/process.ts'
import { runAdmin } from './helpers/admin.ts'
import { connect, createDatabase, ownUserIds } from './helpers/database.ts'
import { ask, checkout, externalEngines, folder, startServer } from './helpers/server.ts'

const password = 'correct horse'

const env = { ...externalEngines(), POSTGRES_DB: await createDatabase(t), RATE_LIMIT: 'off' }
// Two replicas: what is done here reaches both.
const servers = [startServer(t, env), startServer(t, env)]
const [url = '', other = ''] = await Promise.all(servers.map(({ ready }) => ready))
await ownUserIds(env.POSTGRES_DB)
const client = await connect(t, env.POSTGRES_DB)
t.beforeEach(() =>
  client.query('delete from chat_message; delete from chat_user; delete from chat_moderation_log')
)

const admin = (...args: string[]) => runAdmin(env, args)
const register = async (nickname: string): Promise<{ userId: number; token: string }> =>
  (await ask(url, '/api/register', undefined, { nickname, password })).body
const login = (nickname: string, password: string) =>
  ask(other, '/api/login', undefined, { nickname, password })

/** What both replicas answer to a request for the sessions of a token's user. */
const statuses = async (token: string) => [
  (await ask(url, '/api/sessions', token)).status,
  (await ask(other, '/api/sessions', token)).status
]

async function readLog(): Promise<object[]> {
  const { rows } = await client.query(
    'select action, moderator_id as by, user_id as user, reason, details from chat_moderation_log order by id'
  )
  return rows
}

const done = (stdout: string) => ({ code: 0, stdout, stderr: '' })
const refused = (stderr: string | RegExp) => ({ code: 1, stdout: '', stderr })

t.test('role makes the first admin, with immediate effect', async (t) => {
  const [alice, bob] = [await register('alice'), await register('bob')]
  t.match(await ask(url, '/api/restrictions', alice.token), { status: 403 }, 'a member')
  t.strictSame(await admin('role', 'alice', 'admin'), done('alice now has the role admin'))
  t.match(await ask(url, '/api/restrictions', alice.token), { status: 200 }, 'an admin')
  t.strictSame(await admin('role', 'bob', 'moderator'), done('bob now has the role moderator'))
  t.match(await ask(url, '/api/restrictions', bob.token), { status: 200 }, 'a moderator')
  t.strictSame(await admin('list'), done('alice: admin\nbob: moderator'))
  t.strictSame(await admin('role', 'bob', 'member'), done('bob now has the role member'))
  t.match(await ask(url, '/api/restrictions', bob.token), { status: 403 }, 'a member again')
  t.match(await readLog(), [
    { action: 'set_role', by: null, user: alice.userId, details: { from: 'member', to: 'admin' } },
    { action: 'set_role', by: null, user: bob.userId },
    { action: 'set_role', by: null, user: bob.userId, details: { from: 'moderator', to: 'member' } }
  ])
})

t.test('ban ends all sessions on all replicas, and unban lifts it', async (t) => {
  const mallory = await register('mallory')
  const second = (await login('mallory', password)).body.token
  const bystander = await register('bob')
  const until = new Date(Date.now() + 3_600_000).toISOString()
  t.strictSame(
    await admin('ban', 'mallory', '--until', until, '--reason', ' spam\u001b[2J '),
    done(`mallory is banned until ${until}, and all sessions have ended`)
  )
  t.strictSame(await statuses(mallory.token), [401, 401])
  t.strictSame(await statuses(second), [401, 401])
  t.match(await login('mallory', password), { status: 403, body: { code: 'banned' } })
  t.strictSame(await statuses(bystander.token), [200, 200], 'nobody else is affected')
  t.strictSame(
    await admin('list'),
    done(`mallory: member, banned until ${until} (spam\ufffd[2J)`),
    'a terminal is not given what it would obey'
  )
  t.strictSame(await admin('unban', 'mallory'), done('mallory is no longer banned'))
  t.match(await login('mallory', password), { status: 200 })
  t.strictSame(await admin('unban', 'mallory'), done('mallory had no restriction'))
  t.strictSame(await admin('ban', 'mallory'), done('mallory is banned, and all sessions have ended'))
  t.strictSame(await admin('list'), done('mallory: member, banned'))
  t.match(await readLog(), [
    { action: 'ban', by: null, user: mallory.userId, reason: 'spam\u001b[2J', details: { until } },
    { action: 'lift_restriction', by: null, user: mallory.userId },
    { action: 'ban', by: null, user: mallory.userId, reason: null }
  ])

  const moderator = await register('carol')
  await runAdmin(env, ['role', 'carol', 'moderator'])
  t.match(
    (await ask(url, '/api/moderation-log', moderator.token)).body.slice(1, 2),
    [{ action: 'ban', moderator: undefined, user: { nickname: 'mallory' } }],
    'moderators see what the operator did'
  )
})

t.test(
  'reset-password prints a password that works, ends all sessions and revokes all API tokens',
  async (t) => {
    const [alice, bob] = [await register('alice'), await register('bob')]
    const bot = (await ask(url, '/api/tokens', alice.token, { name: 'bot' })).body.token
    const bystander = (await ask(url, '/api/tokens', bob.token, { name: 'bot' })).body.token
    const post = (token: string) => ask(other, '/api/messages', token, { text: 'hello' })
    t.match(await post(bot), { status: 201 })
    const { code, stdout, stderr } = await admin('reset-password', 'alice')
    t.match({ code, stderr }, { code: 0, stderr: '' })
    const fresh = /^the new password of alice is (\S{24})$/.exec(stdout)?.[1] ?? stdout
    t.strictSame(await statuses(alice.token), [401, 401])
    t.match(await post(bot), { status: 401, body: { code: 'session_not_found' } }, 'the API token')
    t.match(await post(bystander), { status: 201 }, "another user's API token")
    t.match(await login('alice', password), { status: 401 }, 'the old password')
    t.match(await login('alice', fresh), { status: 200 }, 'the new one')
    t.notSame((await admin('reset-password', 'alice')).stdout, stdout, 'it is drawn anew')
    t.match((await readLog())[0], { action: 'reset_password', by: null, user: alice.userId, details: null })
  }
)

t.test('sessions end ends the sessions of one user, who can log in again', async (t) => {
  const [alice, bob] = [await register('alice'), await register('bob')]
  const second = (await login('alice', password)).body.token
  t.strictSame(await admin('sessions', 'end', 'alice'), done('all sessions of alice have ended'))
  t.strictSame(await statuses(alice.token), [401, 401])
  t.strictSame(await statuses(second), [401, 401])
  t.strictSame(await statuses(bob.token), [200, 200])
  t.match(await login('alice', password), { status: 200 })
  t.match(await readLog(), [{ action: 'end_sessions', by: null, user: alice.userId }])
})

t.test('the last admin keeps the role, and is not banned', async (t) => {
  const alice = await register('alice')
  await admin('role', 'alice', 'admin')
  for (const args of [
    ['role', 'alice', 'member'],
    ['role', 'alice', 'moderator'],
    ['ban', 'alice']
  ]) {
    t.strictSame(await admin(...args), refused('the last admin cannot be removed'), args.join(' '))
  }
  t.strictSame(await statuses(alice.token), [200, 200], 'the sessions go on')
  t.strictSame(await admin('list'), done('alice: admin'))
})

t.test('a nickname is found as stored, in every spelling that can log in', async (t) => {
  await register('zoë')
  t.strictSame(await admin('role', 'zoe\u0308', 'moderator'), done('zoë now has the role moderator'))
  await client.query(
    `insert into chat_user (nickname, password_hash, created_at) values ('-rf', '', now()), ('two words', '', now())`
  )
  t.strictSame(await admin('role', '--', '-rf', 'admin'), done('-rf now has the role admin'))
  t.strictSame(await admin('ban', 'two words'), done('two words is banned, and all sessions have ended'))
})

t.test('each mistake prints one sentence and changes nothing', async (t) => {
  await register('alice')
  const soon = new Date(Date.now() + 60_000).toISOString()
  const mistakes: [string[], string | RegExp][] = [
    [[], 'no command given: --help lists the commands'],
    [['frobnicate', 'alice'], 'unknown command frobnicate: --help lists the commands'],
    [['constructor'], 'unknown command constructor: --help lists the commands'],
    [['sessions', 'alice'], 'unknown command sessions: --help lists the commands'],
    [['role', 'alice'], 'usage: role NICK ROLE; --help lists the commands'],
    [['unban', 'alice', 'bob'], 'usage: unban NICK; --help lists the commands'],
    [['list', 'alice'], 'usage: list; --help lists the commands'],
    [['ban', 'nobody'], 'there is no user with the nickname nobody'],
    [['reset-password', 'x'.repeat(5000)], /^there is no user with the nickname x+$/],
    [['role', 'nobody', 'admin'], 'there is no user with the nickname nobody'],
    [['role', 'alice', 'owner'], 'role must be member, moderator or admin'],
    [['role', 'alice', ''], /^role must be/],
    [['ban', 'alice', '--until', '2020-01-31T12:00:00Z'], 'until must be in the future'],
    [['ban', 'alice', '--until', 'tomorrow'], /^until must be an RFC 3339 time, such as /],
    [['ban', 'alice', '--until', '2099-02-30T12:00:00Z'], /^until must be an RFC 3339 time, such as /],
    [['ban', 'alice', '--until', ''], /^until must be an RFC 3339 time, such as /],
    [['ban', 'alice', '--until'], /^Option '--until <value>' argument missing$/],
    [['ban', 'alice', '--reason', 'x'.repeat(501)], 'reason must have at most 500 characters'],
    [['ban', 'alice', '--forever'], /^Unknown option '--forever'/],
    [['unban', 'alice', '--until', soon], 'unban does not take --until: --help lists the commands']
  ]
  const environments: [Record<string, string>, RegExp][] = [
    [{ POSTGRES_PORT: '1' }, /^cannot connect to PostgreSQL at 127\.0\.0\.1:1: .*ECONNREFUSED/],
    [{ POSTGRES_PASSWORD: 'wrong' }, /^cannot connect to PostgreSQL at .*: password authentication failed/],
    [{ REDIS_PORT: '1' }, /^cannot connect to Redis at 127\.0\.0\.1:1: .*ECONNREFUSED/],
    [{ REDIS_DB: '1000000' }, /^cannot connect to Redis at .*: .*out of range/],
    [{ BCRYPT_COST: 'cheap' }, /^BCRYPT_COST must be a whole number from 4 to 16, not "cheap"$/],
    [{ POSTGRES_DB: await createDatabase(t) }, /^PostgreSQL failed: relation "chat_user" does not exist$/]
  ]
  const runs = [
    ...mistakes.map(([args, sentence]) => ({ args, sentence, variables: {} })),
    ...environments.map(([variables, sentence]) => ({ args: ['ban', 'alice'], sentence, variables }))
  ]
  // A few at a time, because a process that hardly gets to run cannot connect in time.
  const work = async () => {
    for (let run = runs.pop(); run; run = runs.pop()) {
      const { args, sentence, variables } = run
      const result = await runAdmin({ ...env, ...variables }, args)
      t.match(result, refused(sentence), `${Object.keys(variables).join()} ${args.join(' ').slice(0, 80)}`)
      t.equal(result.stderr.split('\n').length, 1)
    }
  }
  await Promise.all([work(), work(), work()])
  t.strictSame(await readLog(), [])
  t.strictSame(await admin('list'), done('nobody has a role or a restriction'))
})

t.test('an engine that does not answer gives one sentence', async (t) => {
  await register('alice')
  const silent = createServer(() => {}).listen(0, '127.0.0.1')
  await once(silent, 'listening')
  t.teardown(() => silent.close())
  const { port } = silent.address() as { port: number }
  for (const [name, sentence] of [
    ['POSTGRES_PORT', /^cannot connect to PostgreSQL at .*: /],
    ['REDIS_PORT', /^cannot connect to Redis at .*: /]
  ] as const) {
    t.match(await runAdmin({ ...env, [name]: `${port}` }, ['ban', 'alice']), refused(sentence))
  }
  const sentinels = `127.0.0.1:${await freePort()}`
  t.match(
    await runAdmin({ ...env, REDIS_SENTINELS: sentinels }, ['ban', 'alice']),
    refused(
      `cannot connect to Redis at the sentinels ${sentinels}: ` +
        'no Sentinel gives the address of the master mymaster: Connection is closed.'
    ),
    'without a word of a retry'
  )
  t.strictSame(await readLog(), [])
})

t.test('--help prints every command', async (t) => {
  for (const args of [['--help'], ['-h'], ['ban', '--help']]) {
    const { code, stdout, stderr } = await runAdmin({}, args)
    t.match({ code, stderr }, { code: 0, stderr: '' })
    for (const command of [
      'role NICK ROLE',
      'ban NICK',
      'unban NICK',
      'reset-password NICK',
      'sessions end NICK',
      'list'
    ]) {
      t.match(stdout, `  ${command}`)
    }
  }
})

t.test('a result that cannot be printed is a failure', async (t) => {
  const full = openSync('/dev/full', 'w')
  t.teardown(() => closeSync(full))
  const { status, stderr } = spawnSync(
    '/usr/bin/env',
    ['-u', 'NODE_OPTIONS', process.execPath, 'dist/src/admin.js', '--help'],
    { cwd: checkout, stdio: ['ignore', full, 'pipe'], encoding: 'utf8' }
  )
  t.equal(status, 1)
  t.equal(stderr, 'the result could not be printed, run this again: ENOSPC: no space left on device, write\n')
})

t.test('npm run admin passes the arguments on', async (t) => {
  const { status, stdout } = spawnSync('npm', ['run', '--silent', 'admin', '--', '--help'], {
    cwd: checkout,
    env: { PATH: process.env['PATH'], HOME: process.env['HOME'] },
    encoding: 'utf8'
  })
  t.equal(status, 0)
  t.match(stdout, /^Usage: npm run admin/)
})

t.test('the command works beside a running service with embedded engines', async (t) => {
  const DATA_DIR = folder(t)
  const stopped =
    /^no service with embedded engines runs in .*: start it, or set POSTGRES_HOST and REDIS_HOST$/
  t.match(await runAdmin({ DATA_DIR }, ['list']), refused(stopped), 'before the first start')
  const server = startServer(t, { DATA_DIR })
  const url = await server.ready
  const { body } = await ask(url, '/api/register', undefined, { nickname: 'alice', password })
  t.strictSame(await runAdmin({ DATA_DIR }, ['role', 'alice', 'admin']), done('alice now has the role admin'))
  t.match(await ask(url, '/api/restrictions', body.token), { status: 200 })
  t.strictSame(
    await runAdmin({ DATA_DIR }, ['sessions', 'end', 'alice']),
    done('all sessions of alice have ended')
  )
  t.match(await ask(url, '/api/sessions', body.token), { status: 401 })
  server.child.kill('SIGTERM')
  await server.exited
  t.match(await runAdmin({ DATA_DIR }, ['list']), refused(stopped), 'after the end')
})
