import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { promisify } from 'node:util'
import t from 'tap'
import { ChatClient } from '../../client/index.js'
import { startService } from '../helpers/app.ts'
import { startFollowing } from '../helpers/follow.ts'
import { waitUntil } from '../helpers/raw.ts'
import { checkout } from '../helpers/server.ts'

function startExample(name: string, env: Record<string, string>, args: string[] = []) {
  const { PATH, HOME } = process.env
  return spawn(process.execPath, ['--import=tsx', `client/examples/${name}`, ...args], {
    cwd: checkout,
    env: { PATH, HOME, ...env },
    stdio: ['ignore', 'pipe', 'pipe']
  })
}

/** The service, a person, and the API token of that person's bot. */
async function startWithBot(t: Parameters<typeof startService>[0]) {
  const service = await startService(t)
  const { url } = service
  const bot = new ChatClient({ url, token: (await service.register()).token })
  const { token } = await bot.createApiToken({ name: 'a bot' })
  const person = new ChatClient({ url, token: (await service.register()).token })
  return { ...service, person, env: { CHAT_URL: url, CHAT_TOKEN: token } }
}

t.test('the bot answers `!time` with a reply, once', async (t) => {
  const { url, person, env } = await startWithBot(t)
  const bot = startExample('time-bot.ts', env)
  t.teardown(() => bot.kill('SIGKILL'))
  let output = ''
  bot.stdout.on('data', (data) => (output += data))
  await waitUntil('the bot listens', () => output.includes('is listening'), 30_000)
  const { events, until } = startFollowing(t, url)
  await until(1)
  await person.postMessage({ text: 'what is the !time?' })
  const { id } = await person.postMessage({ text: '!time' })
  await until(4)
  t.match(events[3], { message: { text: /^20\d\d-.*Z$/, replyTo: { id, text: '!time' } } })
  bot.kill('SIGTERM')
  t.strictSame(await once(bot, 'exit'), [0, null])
})

t.test('a CI job posts once however often it runs, and its exit code says whether it worked', async (t) => {
  const { person, env } = await startWithBot(t)
  const run = async (extra: Record<string, string>, args: string[]) => {
    const child = startExample('post.ts', { ...env, ...extra }, args)
    const [output, [code]] = await Promise.all([text(child.stderr), once(child, 'exit')])
    return { code, output }
  }
  const [first, again, other, wrong, none] = await Promise.all([
    run({ CHAT_KEY: 'build-1' }, ['build', '1', 'passed']),
    run({ CHAT_KEY: 'build-1' }, ['build', '1', 'passed']),
    run({ CHAT_TEXT: 'from the environment' }, []),
    run({ CHAT_TOKEN: 'chat_wrong' }, ['hello']),
    run({}, [])
  ])
  t.strictSame(first, { code: 0, output: '' })
  t.strictSame(again, { code: 0, output: '' })
  t.strictSame(other, { code: 0, output: '' })
  t.strictSame(wrong, { code: 1, output: 'not posted: session not found\n' })
  t.equal(none.code, 2)
  const texts = (await person.listMessages()).map(({ text }) => text)
  t.strictSame(texts.sort(), ['build 1 passed', 'from the environment'])
})

t.test('the curl line of docs/bots.md posts once', async (t) => {
  const { url, person, env } = await startWithBot(t)
  const page = readFileSync(join(checkout, 'docs/bots.md'), 'utf8')
  const [, line = ''] = /```sh\n(curl --fail[^`]*)```/.exec(page) ?? []
  for (let run = 0; run < 2; run++) {
    await promisify(execFile)('sh', ['-ec', line.replace('https://chat.example', url)], {
      env: { ...process.env, ...env }
    })
  }
  t.match(await person.listMessages(), [{ text: 'build 1234 passed' }])
  t.equal((await person.listMessages()).length, 1)
})

t.test('no bot has more than 40 lines', (t) => {
  const folder = join(checkout, 'client/examples')
  const bots = readdirSync(folder).filter((name) => /\.(ts|py)$/.test(name))
  t.equal(bots.length, 4)
  for (const bot of bots) {
    t.ok(readFileSync(join(folder, bot), 'utf8').trimEnd().split('\n').length <= 40, bot)
  }
  t.end()
})
