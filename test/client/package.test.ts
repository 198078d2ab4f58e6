import { execFile } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { startService } from '../helpers/app.ts'
import { checkout, folder } from '../helpers/server.ts'

const run = promisify(execFile)
const read = (path: string) => JSON.parse(readFileSync(join(checkout, path), 'utf8'))

const program = `
import { ChatClient, ChatError, type Message } from 'chat-backend-client'

declare const process: { argv: string[] }
const chat = new ChatClient({ url: process.argv[2] ?? '' })
const nickname: string = (await chat.register({ nickname: 'alice', password: 'correct horse' })).nickname
const messages: Message[] = await chat.listMessages()
// @ts-expect-error: no such parameter
await chat.listMessages({ before: 1 })
for await (const event of chat.follow()) {
  if (event.type === 'list') console.log(nickname, event.messages.length, messages.length, event.cursor >= 0)
  break
}
await chat.getMe().catch((error: unknown) => console.log(error instanceof ChatError && error.code))
`

t.test('the client is a package that another project can install, import and compile', async (t) => {
  const project = folder(t)
  const installed = join(project, 'node_modules/chat-backend-client')
  mkdirSync(installed, { recursive: true })
  await run('npm', ['pack', '--silent', '--pack-destination', project], { cwd: join(checkout, 'client') })
  const { version, dependencies } = read('client/package.json')
  t.equal(version, read('package.json').version)
  t.equal(dependencies, undefined)
  const archive = join(project, `chat-backend-client-${version}.tgz`)
  await run('tar', ['-xzf', archive, '--strip-components=1', '-C', installed])

  writeFileSync(join(project, 'package.json'), '{ "type": "module" }')
  writeFileSync(join(project, 'program.ts'), program)
  const options = [
    '--strict',
    '--module',
    'nodenext',
    '--target',
    'es2022',
    '--lib',
    'es2022,dom,dom.asynciterable'
  ]
  const tsc = join(checkout, 'node_modules/.bin/tsc')
  await run(tsc, [...options, 'program.ts'], { cwd: project }).catch(({ stdout }) => t.fail(stdout))
  const { url } = await startService(t)
  const { stdout } = await run(process.execPath, ['program.js', url], { cwd: project })
  t.equal(stdout, 'alice 0 0 true\nauthorization_missing\n')
})
