import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, fstatSync, openSync, readFileSync } from 'node:fs'
import { createServer } from 'node:net'
import type { Config } from '../config.ts'
import type { Log } from '../lib/logger.ts'
import { StartError } from '../lib/start-error.ts'
import { waitFor } from '../lib/wait-for.ts'

/** A running engine: the settings to connect to it, and how to stop it. */
export interface Engine {
  settings: Partial<Config>
  stop: () => Promise<void>
}
interface Start {
  name: string
  logFile: string
  input?: string
  ready: () => Promise<unknown>
}

/** Whether a program is installed and exits with 0. */
export const canRun = (program: string, ...args: string[]) =>
  spawnSync(program, args, { stdio: 'ignore' }).status === 0

/**
 * The words to put before a command so that Linux interrupts it when this process dies, even by SIGKILL.
 * Empty where that is not possible.
 */
export const stopWithParent = () => (canRun('setpriv', '--version') ? ['setpriv', '--pdeathsig', 'INT'] : [])

/** Why a program failed, in one line: the first error that it printed, or else its last line. */
function complaint(output: string): string | undefined {
  const lines = output.trim().split('\n')
  return lines.find((line) => /\b(error|FATAL|PANIC): /.test(line)) ?? lines.at(-1)
}

/**
 * Runs a program until it exits, in a process group of its own, so that Ctrl-C reaches only the service.
 * @param signal stops the program, then rejects with the signal's reason
 * @throws {Error} with the program's own complaint
 */
export async function runProgram([program = '', ...args]: string[], signal?: AbortSignal): Promise<void> {
  signal?.throwIfAborted()
  const child = spawn(program, args, { detached: true, stdio: ['ignore', 'ignore', 'pipe'] })
  let output = ''
  child.stderr.setEncoding('utf8').on('data', (text) => {
    output += text
  })
  const end = () => child.kill('SIGTERM')
  signal?.addEventListener('abort', end, { once: true })
  const [code, killedBy] = await once(child, 'close').finally(() => signal?.removeEventListener('abort', end))
  signal?.throwIfAborted()
  if (code !== 0) throw new Error(complaint(output) || `it ended with ${killedBy ?? `code ${code}`}`)
}

/**
 * Starts a program in a process group of its own, so that Ctrl-C reaches only the service, and waits until it
 * is ready.
 * @param logFile receives its output
 * @param signal stops the program, then rejects with the signal's reason
 * @returns a function that stops it: with SIGTERM, on which PostgreSQL waits for its clients to disconnect,
 * and after 2 s with SIGINT, on which it does not
 * @throws {StartError} with the first error that it printed, or else its last line, if it exits before it is
 * ready
 */
export async function startProgram(
  [program = '', ...args]: string[],
  { name, logFile, input = '', ready }: Start,
  log: Log,
  signal?: AbortSignal
): Promise<() => Promise<void>> {
  signal?.throwIfAborted()
  const output = openSync(logFile, 'a', 0o600)
  const { size: before } = fstatSync(output)
  const child = spawn(program, args, { detached: true, stdio: ['pipe', output, output] })
  closeSync(output)
  child.stdin?.on('error', () => {}).end(input)
  const exited = once(child, 'exit').catch((error: Error) => [error.message])
  const failed = exited.then(([how]) => {
    const printed = readFileSync(logFile).subarray(before).toString()
    throw new StartError(
      `the embedded ${name} did not start: ${complaint(printed) || `it ended with ${how}`} (see ${logFile})`
    )
  })
  const stop = async (timeoutMs: number) => {
    child.kill('SIGTERM')
    const timer = setTimeout(() => child.kill('SIGINT'), timeoutMs)
    await exited.finally(() => clearTimeout(timer))
  }
  const settled = new AbortController()
  try {
    const quiet = { warn: () => {} }
    const options = { pauseMs: 20, signal: AbortSignal.any([...(signal ? [signal] : []), settled.signal]) }
    await Promise.race([waitFor(`the embedded ${name}`, 30, quiet, ready, options), failed])
  } catch (error) {
    settled.abort()
    await stop(0)
    throw error
  }
  const lost = () => log.error(`the embedded ${name} exited unexpectedly (see ${logFile})`)
  child.once('exit', lost)
  return async () => {
    child.off('exit', lost)
    await stop(2000)
  }
}

/** A free port on loopback, below the range that the kernel hands out to clients. */
export async function freePort(): Promise<number> {
  const port = 20_000 + Math.floor(Math.random() * 12_000)
  const probe = createServer().listen(port, '127.0.0.1')
  return once(probe, 'listening').then(() => {
    probe.close()
    return port
  }, freePort)
}
