import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { connect, createDatabase, ownUserIds } from './helpers/database.ts'
import { waitUntil } from './helpers/raw.ts'
import { ask, checkout, externalEngines, startServer } from './helpers/server.ts'
import { openStream } from './helpers/stream.ts'

const page = readFileSync(join(checkout, 'docs/people.md'), 'utf8')
const password = 'correct horse'

/** The code blocks below a heading, in their order. */
function blocksOf(heading: string): { language: string; code: string }[] {
  const section = page.split(`\n## ${heading}\n`)[1]?.split('\n## ')[0] ?? ''
  return [...section.matchAll(/```(\w+)\n([^`]*)```/g)].map(([, language = '', code = '']) => ({
    language,
    code
  }))
}

t.test('the recipes of docs/people.md do what they say', async (t) => {
  const env = { ...externalEngines(), POSTGRES_DB: await createDatabase(t), RATE_LIMIT: 'off' }
  const url = await startServer(t, env).ready
  await ownUserIds(env.POSTGRES_DB)
  const client = await connect(t, env.POSTGRES_DB)
  const ids = new Map<string, number>()
  const tokens = new Map<string, string>()
  for (const nickname of ['alice', 'bob', 'mallory', 'carol', 'dave', 'erin']) {
    const { body } = await ask(url, '/api/register', undefined, { nickname, password })
    ids.set(nickname, body.userId)
    tokens.set(nickname, body.token)
    await ask(url, '/api/messages', body.token, { text: `I am ${nickname}` })
  }
  const statusOf = async (nickname: string, path: string) =>
    (await ask(url, path, tokens.get(nickname))).status
  const login = (nickname: string, password: string) =>
    ask(url, '/api/login', undefined, { nickname, password })
  const authors = async (): Promise<string[]> =>
    (await ask(url, '/api/messages')).body.map(({ nickname }: { nickname: string }) => nickname)

  /** Runs a block as it stands, with the addresses of this test. @returns what it prints, or its rows */
  async function run({ language, code }: { language: string; code: string }) {
    if (language === 'sql') {
      const results = [await client.query(code)].flat()
      return { stdout: '', rows: results.flatMap(({ rows }) => rows) }
    }
    const script = code
      .replaceAll('npm run admin --', `${process.execPath} ${join(checkout, 'dist/src/admin.js')}`)
      .replaceAll('https://chat.example', url)
      .replaceAll('/users/17/', `/users/${ids.get('mallory')}/`)
    const { stdout } = await promisify(execFile)('sh', ['-ec', script], {
      env: { PATH: process.env['PATH'], ...env }
    })
    return { stdout, rows: [] }
  }
  const runAll = async (heading: string, count: number) => {
    const blocks = blocksOf(heading)
    t.equal(blocks.length, count, heading)
    const results = []
    for (const block of blocks) results.push(await run(block))
    return results
  }

  await t.test('make an admin or a moderator', async (t) => {
    const [made] = await runAll('Make an admin or a moderator', 1)
    t.match(made?.stdout, /^alice: admin\nbob: moderator$/m)
    t.equal(await statusOf('bob', '/api/restrictions'), 200)
  })

  await t.test('ban a spammer and remove their messages', async (t) => {
    const [ban, remove, lift] = blocksOf('Ban a spammer and remove their messages')
    await run(ban!)
    t.equal(await statusOf('mallory', '/api/sessions'), 401)
    t.match(await login('mallory', password), { status: 403 })
    t.match((await run(remove!)).stdout, /\{"deleted":1\}$/)
    await waitUntil('the messages of mallory are gone', async () => !(await authors()).includes('mallory'))
    await run(lift!)
    t.match(await login('mallory', password), { status: 200 })
  })

  await t.test('reset a password', async (t) => {
    const bot = await ask(url, '/api/tokens', tokens.get('carol'), { name: 'bot' })
    t.equal(bot.status, 201)
    const [reset, end] = blocksOf('Reset a password')
    const fresh = /is (\S+)\n$/.exec((await run(reset!)).stdout)?.[1] ?? ''
    t.equal(await statusOf('carol', '/api/sessions'), 401)
    tokens.set('carol', (await login('carol', fresh)).body.token)
    t.match(await ask(url, '/api/messages', bot.body.token, { text: 'beep' }), { status: 401 })
    t.equal(await statusOf('carol', '/api/sessions'), 200)
    await run(end!)
    t.equal(await statusOf('carol', '/api/sessions'), 401)
  })

  await t.test('free a nickname', async (t) => {
    const stream = await openStream(t, url)
    await runAll('Free a nickname', 1)
    t.match(await stream.events(1), [{ data: { type: 'reset' } }])
    await waitUntil('messages have the new nickname', async () => (await authors()).includes('dave (old)'))
    t.match(await login('dave (old)', password), { status: 200 })
    const register = { nickname: 'dave', password }
    t.match(await ask(url, '/api/register', undefined, register), { status: 201 })
  })

  await t.test('export the data of one account', async (t) => {
    const { body } = await ask(url, '/api/messages')
    await ask(url, `/api/messages/${body[0].id}/report`, tokens.get('erin'), { reason: 'boring' })
    await ask(url, '/api/tokens', tokens.get('erin'), { name: 'my bot' })
    await run({ language: 'sh', code: 'npm run admin -- role erin moderator' })
    const [exported] = await runAll('Export the data of one account', 1)
    t.match(JSON.parse(exported?.rows[0].export), {
      account: { id: ids.get('erin'), nickname: 'erin' },
      role: 'moderator',
      restriction: null,
      messages: [{ text: 'I am erin', editedAt: null }],
      reports: [{ reason: 'boring' }],
      tokens: [{ name: 'my bot' }],
      moderation: [{ action: 'set_role' }]
    })
    t.notMatch(exported?.rows[0].export, /digest|password|\$2b\$/)
  })

  await t.test('delete an account and its data', async (t) => {
    await runAll('Delete an account and its data', 2)
    await waitUntil('the messages of erin are gone', async () => !(await authors()).includes('erin'))
    t.match(await login('erin', password), { status: 401 })
    const { rows } = await client.query(
      `select table_name, column_name from information_schema.columns
      where table_schema = current_schema() and column_name = 'user_id' and table_name <> 'chat_moderation_log'`
    )
    t.ok(rows.length > 5, 'tables that name a user')
    for (const { table_name: table } of rows) {
      // The queue of the look-alike index is worked off in the background.
      if (table === 'chat_user_skeleton_queue' || table === 'chat_user_skeleton') continue
      const { rowCount } = await client.query(`select from ${table} where user_id = $1`, [ids.get('erin')])
      t.equal(rowCount, 0, table)
    }
    const register = { nickname: 'erin', password }
    t.match(await ask(url, '/api/register', undefined, register), { status: 201 })
  })
})
