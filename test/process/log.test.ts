import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { freePort } from '../../src/embedded/process.ts'
import { LogBuffer } from '../../src/process/log-buffer.ts'
import { createDatabase } from '../helpers/database.ts'
import { waitUntil } from '../helpers/raw.ts'
import { checkout, externalEngines, folder, startServer } from '../helpers/server.ts'

const REQUESTS = 20

/** Starts the service, with a module that runs `code` in it as soon as it has answered all requests. */
async function startWithEnd(t: Test, code: string) {
  const file = join(folder(t), 'end.mjs')
  writeFileSync(
    file,
    `import { subscribe } from 'node:diagnostics_channel'
    let left = ${REQUESTS}
    subscribe('http.server.response.finish', () => {
      if (--left === 0) setImmediate(() => { ${code} })
    })`
  )
  const server = startServer(
    t,
    { ...externalEngines(), POSTGRES_DB: await createDatabase(t), LOG_REQUESTS: 'all' },
    { execArgv: ['--import', file] }
  )
  const url = await server.ready
  for (let i = 0; i < REQUESTS; i++) await (await fetch(`${url}/health/livez`)).text()
  return server
}

for (const [end, code, exitCode, lastLine] of [
  ['the process exits', 'process.exit(0)', 0, 'request completed'],
  ['an exception is not caught', "throw new Error('planted')", 1, 'uncaught exception: planted'],
  [
    'a second exception follows during the shutdown',
    "setImmediate(() => { throw new Error('second') }); throw new Error('first')",
    1,
    'uncaught exception: second'
  ],
  ['SIGTERM comes', "process.kill(process.pid, 'SIGTERM')", 0, 'shutting down after SIGTERM']
] as const) {
  t.test(`no line of the log is lost when ${end}`, async (t) => {
    const server = await startWithEnd(t, code)
    t.equal(await server.exited, exitCode)
    const requests = () => server.log.filter((msg) => msg === 'request completed').length
    await waitUntil('every request has its line', () => requests() === REQUESTS)
    await waitUntil('the last line is there', () => server.log.at(-1) === lastLine)
  })
}

t.test('the service ends when nobody reads its log any more', async (t) => {
  const server = startServer(t, {
    ...externalEngines(),
    POSTGRES_DB: await createDatabase(t),
    LOG_REQUESTS: 'all'
  })
  const url = await server.ready
  server.child.stdout?.destroy()
  for (let i = 0; i < REQUESTS; i++) {
    t.equal((await fetch(`${url}/health/livez`)).status, 200)
  }
  server.child.kill('SIGTERM')
  t.equal(await server.exited, 0)
})

t.test('the service works on when the disk of its log is full', async (t) => {
  const port = await freePort()
  const errors: Buffer[] = []
  const full = openSync('/dev/full', 'w')
  const child = spawn('/usr/bin/env', ['-u', 'NODE_OPTIONS', process.execPath, 'dist/src/server.js'], {
    cwd: checkout,
    env: {
      PATH: process.env['PATH'],
      ...externalEngines(),
      POSTGRES_DB: await createDatabase(t),
      HTTP_HOST: '127.0.0.1',
      HTTP_PORT: `${port}`
    },
    stdio: ['ignore', full, 'pipe']
  })
  closeSync(full)
  t.teardown(() => child.kill('SIGKILL'))
  const exited = once(child, 'close')
  child.stderr!.on('data', (chunk) => errors.push(chunk))
  const isUp = async () => {
    const answer = await fetch(`http://127.0.0.1:${port}/health/readyz`).catch(() => undefined)
    return answer?.status === 200 || child.exitCode !== null
  }
  await waitUntil('it is ready', isUp, 60_000)
  // An error has a line, which is written at once.
  t.equal((await fetch(`http://127.0.0.1:${port}/nowhere`)).status, 404)
  t.equal((await fetch(`http://127.0.0.1:${port}/health/livez`)).status, 200)
  child.kill('SIGTERM')
  t.strictSame(await exited, [0, null])
  t.equal(Buffer.concat(errors).toString(), '')
})

t.test('on a terminal, the start ends with three lines, and a request is one', async (t) => {
  const POSTGRES_DB = await createDatabase(t)
  // `script` is the terminal: what is shown there it prints.
  const terminal = spawn(
    'script',
    [
      '--quiet',
      '--return',
      '--command',
      `exec env -u NODE_OPTIONS ${process.execPath} dist/src/server.js`,
      '/dev/null'
    ],
    {
      cwd: checkout,
      env: {
        PATH: process.env['PATH'],
        ...externalEngines(),
        POSTGRES_DB,
        HTTP_HOST: '127.0.0.1',
        HTTP_PORT: '0',
        LOG_REQUESTS: 'all'
      },
      stdio: ['pipe', 'pipe', 'inherit']
    }
  )
  const exited = once(terminal, 'exit')
  t.teardown(async () => {
    terminal.stdin.write('\x03')
    await exited
  })
  let shown = ''
  terminal.stdout.setEncoding('utf8').on('data', (text) => {
    shown += text
  })
  await waitUntil('it is ready', () => /next: [^\n]*\n/.test(shown), 60_000)
  const [ready = '', engines, next] = shown.slice(shown.indexOf('the chat is ready')).split(/\r?\n/)
  const url = /^the chat is ready at (http:\S+); Ctrl-C stops it$/.exec(ready)?.[1]
  t.match(engines, /^ *PostgreSQL: 127\.0\.0\.1:\d+; Redis: 127\.0\.0\.1:\d+$/)
  t.match(next, `next: open it in a browser, or register: curl `)
  shown = ''
  await fetch(`${url}/nowhere`, { headers: { 'x-request-id': 'the-request' } })
  await fetch(`${url}/health/livez`, { headers: { 'x-request-id': 'the-next' } })
  await waitUntil('both are shown', () => shown.includes('the-next') && shown.endsWith('\n'))
  const lines = shown.trimEnd().split('\n')
  t.equal(lines.length, 2, shown)
  t.match(lines[0], /GET unknown 404 in [\d.]+ ms.*the-request/)
  t.match(lines[1], /GET \/health\/livez 200 in [\d.]+ ms.*the-next/)
})

t.test('lines are written in batches, but a warning immediately, with the lines before it', async (t) => {
  const written: string[] = []
  const buffer = new LogBuffer({ write: (lines) => written.push(lines) })
  buffer.lastLevel = 30
  buffer.write('one\n')
  buffer.write('two\n')
  t.strictSame(written, [])
  buffer.lastLevel = 40
  buffer.write('three\n')
  t.strictSame(written, ['one\ntwo\nthree\n'])
  buffer.flushSync()
  t.equal(written.length, 1, 'nothing is written when there is nothing')
  buffer.lastLevel = 30
  buffer.write('four\n')
  const later = setTimeout(() => {}, 60_000) // the timer of the buffer keeps no process alive
  await waitUntil('the line does not wait long for others', () => written.at(-1) === 'four\n')
  clearTimeout(later)
})
