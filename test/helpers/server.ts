import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  chownSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync
} from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'
import { config } from './database.ts'
import { waitUntil } from './raw.ts'

/** The environment that leads to the engines of this test run. */
export const externalEngines = () => ({
  POSTGRES_HOST: config.POSTGRES_HOST!,
  POSTGRES_PORT: `${config.POSTGRES_PORT}`,
  POSTGRES_USER: config.POSTGRES_USER,
  POSTGRES_PASSWORD: config.POSTGRES_PASSWORD,
  REDIS_HOST: config.REDIS_HOST!,
  REDIS_PORT: `${config.REDIS_PORT}`,
  REDIS_PASSWORD: config.REDIS_PASSWORD ?? ''
})

const ERROR_LEVEL = 50 // of pino
export const checkout = fileURLToPath(new URL('../..', import.meta.url))

/**
 * Options that make `process.exit` kill the process. It can hang
 * (https://github.com/nodejs/node/issues/54918), so a program must end without it where it can.
 */
export const withoutExit = [
  '--import',
  `data:text/javascript,${encodeURIComponent(`
    process.exit = () => {
      console.error(new Error(\`process.exit with \${process.getActiveResourcesInfo()}\`))
      process.kill(process.pid, 'SIGKILL')
    }`)}`
]

/**
 * Options that make each signal after the first come so many milliseconds after it by the clock of the
 * service, however long a busy machine takes to deliver it.
 */
export const signalsApart = (ms: number) => [
  '--import',
  `data:text/javascript,${encodeURIComponent(`
    let first
    for (const name of ['SIGHUP', 'SIGINT', 'SIGTERM']) {
      process.on(name, () => {
        // Whole numbers, whose difference is exact.
        const now = first === undefined ? Math.round(performance.now()) : first + ${ms}
        first ??= now
        performance.now = () => now
        process.nextTick(() => { delete performance.now })
      })
    }`)}`
]

/** The built service in a process of its own, as `npm start` runs it. */
export interface Server {
  child: ChildProcess
  /** The texts of its log lines so far. */
  log: string[]
  /** Those of them that tell of an error, parsed. */
  errors: { level: number; msg: string; [detail: string]: unknown }[]
  /** Resolves to its exit code, or to the name of the signal that ended it, once its log is complete. */
  exited: Promise<number | NodeJS.Signals>
  /** Resolves to the address once it listens; rejects with the log if it ends before. */
  ready: Promise<string>
  /** The loopback ports of its engines. */
  enginePorts: () => number[]
}

/**
 * @param uid the user to run as; this process must be root then
 * @param reader the user who must be able to read the checkout
 * @param root the checkout, where it is another
 * @param execArgv options for Node itself; by default those that forbid it `process.exit`
 * @param args arguments of the service, which takes none
 */
export function startServer(
  t: Test,
  env: Record<string, string>,
  {
    uid,
    reader = uid,
    root = checkout,
    execArgv = withoutExit,
    args = []
  }: {
    uid?: number
    reader?: number | undefined
    root?: string
    execArgv?: string[]
    args?: string[]
  } = {}
): Server {
  const [node, code] = [process.execPath, root].map((path) =>
    reader ? readableBy(t, reader, path) : path
  ) as [string, string]
  // Through `env`, because tap adds its instruments to every Node process that a test starts.
  const child = spawn(
    '/usr/bin/env',
    ['-u', 'NODE_OPTIONS', node, ...execArgv, join(code, 'dist/src/server.js'), ...args],
    {
      env: { PATH: process.env['PATH'], HTTP_HOST: '127.0.0.1', HTTP_PORT: '0', BCRYPT_COST: '4', ...env },
      stdio: ['ignore', 'pipe', 'inherit'],
      cwd: '/',
      detached: true,
      ...(uid && { uid, gid: uid })
    }
  )
  // By `close`, not `exit`, after which the last lines of its log may still be on their way.
  const exited = once(child, 'close').then(([code, signal]) => code ?? signal)
  t.teardown(async () => {
    child.kill('SIGTERM') // Its engines end before it does, so that their folder can be removed.
    await exited
  })
  const log: string[] = []
  const errors: Server['errors'] = []
  const ready = new Promise<string>((resolve, reject) => {
    createInterface(child.stdout!)
      .on('line', (line) => {
        const entry = JSON.parse(line)
        const { level, msg, err } = entry
        if (level >= ERROR_LEVEL) errors.push(entry)
        log.push(err ? `${msg}: ${err.message}` : msg)
        const url = /^the chat is ready at (\S+);/.exec(msg)?.[1]
        if (url) resolve(url)
      })
      .on('close', () => reject(new Error(`ended: ${log.join('\n')}`)))
  })
  ready.catch(() => {})
  const enginePorts = () =>
    log.flatMap((line) => /(?:runs| development,) on 127\.0\.0\.1:(\d+)/.exec(line)?.[1] ?? []).map(Number)
  return { child, log, errors, exited, ready, enginePorts }
}

/** Whether somebody listens on the port, at that address of this machine. */
export async function isOpen(port: number, address = '127.0.0.1'): Promise<boolean> {
  const socket = connect(port, address)
  const open = await once(socket, 'connect').then(
    () => true,
    () => false
  )
  socket.destroy()
  return open
}

/** Resolves once nobody listens on the port. */
export async function portClosed(port: number): Promise<void> {
  await waitUntil(`nobody listens on port ${port}`, async () => !(await isOpen(port)), 60_000)
}

/** Starts the service, which must end with code 1. @returns the last line of its log, which says why */
export async function failedStart(
  t: Test,
  env: Record<string, string>,
  user: Parameters<typeof startServer>[2] = {}
): Promise<string> {
  const server = startServer(t, env, user)
  t.equal(await server.exited, 1)
  t.notMatch(server.log.join('\n'), /startup failed/, 'it is a known failure')
  return server.log.at(-1) ?? ''
}

/** The processes that have a text in their command line. */
export function processesWith(text: string): string[] {
  return readdirSync('/proc').filter((pid) => {
    try {
      return /^\d+$/.test(pid) && readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(text)
    } catch {
      return false // It ended meanwhile.
    }
  })
}

// On a machine that does other things as well. What hangs is given 25 s.
const PROMPTLY_MS = 10_000

/** Sends a signal, and holds the service to a graceful and prompt end. */
export async function endsPromptly(t: Test, server: Server, signal: NodeJS.Signals, code = 0): Promise<void> {
  const since = performance.now()
  server.child.kill(signal)
  t.equal(await server.exited, code, server.log.join('\n'))
  t.ok(performance.now() - since < PROMPTLY_MS, `after ${Math.round(performance.now() - since)} ms`)
  const after = server.log.slice(server.log.indexOf(`shutting down after ${signal}`))
  // Requests may be completed meanwhile.
  t.strictSame(
    after.filter((line) => line !== 'request completed'),
    [`shutting down after ${signal}`]
  )
}

/** Makes a temporary folder, which may belong to another user. */
export function folder(t: Test, mode = 0o755, owner?: number): string {
  const path = mkdtempSync(join(tmpdir(), 'chat-test-'))
  chmodSync(path, mode)
  if (owner) chownSync(path, owner, owner)
  t.teardown(() => rmSync(path, { recursive: true, force: true }))
  return path
}

/** The path, or a copy of what is there when that user cannot read it, because it lies below a 0700 home. */
function readableBy(t: Test, uid: number, path: string): string {
  if (spawnSync('test', ['-r', path], { uid, gid: uid }).status === 0) return path
  const copy = join(folder(t), basename(path))
  cpSync(path, copy, { recursive: true, verbatimSymlinks: true })
  return copy
}

/** The programs of a machine that has no Redis, for `pathWith`. */
export const withoutRedis = { setpriv: true, unshare: true, true: true }

/** A PATH with those programs and no others; `false` stands for one that always fails. */
export function pathWith(t: Test, programs: Record<string, boolean>): string {
  const path = join(folder(t), 'bin')
  mkdirSync(path)
  for (const [program, works] of Object.entries(programs)) {
    if (works) symlinkSync(`/usr/bin/${program}`, join(path, program))
    else writeFileSync(join(path, program), '#!/bin/sh\nexit 1\n', { mode: 0o755 })
  }
  return path
}

/** Asks a running service. @returns the status and the parsed body */
export async function ask(
  url: string,
  path: string,
  token?: string,
  body?: object
  // eslint-disable-next-line @typescript-eslint/no-explicit-any -- whatever the service answers
): Promise<{ status: number; body: any }> {
  const response = await fetch(`${url}${path}`, {
    headers: { 'content-type': 'application/json', ...(token && { authorization: `Bearer ${token}` }) },
    ...(body && { method: 'POST', body: JSON.stringify(body) })
  })
  const text = await response.text()
  return { status: response.status, body: text && JSON.parse(text) }
}

export const alice = { nickname: 'alice', password: 'correct horse' }

/**
 * Uses the service as a newcomer does, and holds it to what was there before. @returns a token for the next
 * time
 */
export async function chat(
  t: Test,
  url: string,
  token: string | undefined,
  earlier: string[]
): Promise<string> {
  const session: string = token ?? (await ask(url, '/api/register', undefined, alice)).body.token
  const text = `message ${earlier.length + 1}`
  t.match(
    await ask(url, '/api/messages', session, { text }),
    { status: 201, body: { nickname: 'alice', text } },
    'the session is known'
  )
  const { body } = await ask(url, '/api/messages')
  t.strictSame(
    body.map((message: { text: string }) => message.text),
    [...earlier, text],
    'nothing is lost'
  )
  earlier.push(text)
  return session
}
