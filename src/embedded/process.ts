import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync, readFileSync } from 'node:fs'
import { createServer } from 'node:net'
import type { Config } from '../config.ts'
import { type Log, StartError, waitFor } from '../start.ts'

/** A running engine: the settings that reach it, and its orderly end. */
export interface Engine { settings: Partial<Config>, stop: () => Promise<void> }
interface Start { name: string, logFile: string, input?: string, ready: () => Promise<unknown> }

/** Whether a program is there and ends well. */
export const runs = (program: string, ...args: string[]) => spawnSync(program, args, { stdio: 'ignore' }).status === 0

/** Where the kernel can do it (Linux), interrupts the program that follows when the service dies without a word. */
export const endedWithUs = () => runs('setpriv', '--version') ? ['setpriv', '--pdeathsig', 'INT'] : []

/**
 * Starts a program in a process group of its own, so that Ctrl-C reaches the service alone, and waits until it is ready.
 * @param logFile gets what it prints
 * @returns its orderly end: PostgreSQL waits on SIGTERM for its last connections, and for nobody on SIGINT
 */
export async function startProgram ([program = '', ...args]: string[], { name, logFile, input = '', ready }: Start, log: Log): Promise<() => Promise<void>> {
  const output = openSync(logFile, 'a', 0o600)
  const child = spawn(program, args, { detached: true, stdio: ['pipe', output, output] })
  closeSync(output)
  child.stdin?.on('error', () => {}).end(input)
  const exited = once(child, 'exit')
  const failed = exited.then(() => {
    throw new StartError(`the embedded ${name} did not start: ${readFileSync(logFile, 'utf8').trim().split('\n').at(-1)} (see ${logFile})`)
  })
  await Promise.race([waitFor(`the embedded ${name}`, 30, { warn: () => {} }, ready, 20), failed])
  const lost = () => log.error(`the embedded ${name} ended by itself (see ${logFile})`)
  child.once('exit', lost)
  return async () => {
    child.off('exit', lost).kill('SIGTERM')
    const impatience = setTimeout(() => child.kill('SIGINT'), 2000)
    await exited.finally(() => clearTimeout(impatience))
  }
}

/** A free port on loopback, below the range that the kernel hands out to clients. */
export async function freePort (): Promise<number> {
  const port = 20_000 + Math.floor(Math.random() * 12_000)
  const probe = createServer().listen(port, '127.0.0.1')
  return once(probe, 'listening').then(() => { probe.close(); return port }, freePort)
}
