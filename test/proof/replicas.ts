import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { stopWithParent, freePort } from '../../src/embedded/process.ts'
import { isReady, SERVER } from '../load/service.ts'

const READY_WITHIN_MS = 60_000
const METRICS_WITHIN_MS = 2000

/**
 * One process of the service, on a port that it keeps over its lives. One that ends by itself is started
 * again.
 */
export class Replica {
  url: string
  #env: Record<string, string>
  #onCrash: (how: string) => void
  #server: string
  #child: ChildProcess | undefined
  #exited: Promise<number | NodeJS.Signals | undefined> | undefined
  constructor(
    port: number,
    env: Record<string, string>,
    onCrash: (how: string) => void,
    server: string = SERVER
  ) {
    this.url = `http://127.0.0.1:${port}`
    this.#env = {
      ...env,
      HTTP_HOST: '127.0.0.1',
      HTTP_PORT: `${port}`,
      RATE_LIMIT: 'off',
      BCRYPT_COST: '4',
      LOG_LEVEL: 'fatal'
    }
    this.#onCrash = onCrash
    this.#server = server
  }

  start(): void {
    const [program = '', ...args] = [...stopWithParent(), process.execPath, this.#server]
    const child = spawn(program, args, {
      detached: true,
      stdio: ['ignore', 2, 2],
      env: { PATH: process.env['PATH'], ...this.#env }
    })
    this.#child = child
    this.#exited = once(child, 'exit').then(([code, signal]) => {
      if (this.#child !== child) return signal ?? code
      this.#onCrash(`${this.url} ended by ${signal ?? `itself, with code ${code}`}`)
      this.start()
    })
  }

  /** Stops it where it is, as on a machine that has no time for it. */
  pause(): void {
    this.#child?.kill('SIGSTOP')
  }

  resume(): void {
    this.#child?.kill('SIGCONT')
  }

  /** Whether it says that it announces to the other replicas what is new. */
  async isAnnouncer(): Promise<boolean> {
    const signal = AbortSignal.timeout(METRICS_WITHIN_MS)
    const response = await fetch(`${this.url}/metrics`, { signal }).catch(() => undefined)
    const metrics = await response?.text().catch(() => '')
    return /^chat_log_announcer 1$/m.test(metrics ?? '')
  }

  /** Ends it, and waits for that. @returns its exit code, or the signal that ended it */
  async end(signal: 'SIGKILL' | 'SIGTERM'): Promise<number | NodeJS.Signals | undefined> {
    const child = this.#child
    this.#child = undefined
    child?.kill(signal)
    const lastResort = setTimeout(() => child?.kill('SIGKILL'), 5000)
    const how = await this.#exited
    clearTimeout(lastResort)
    return how
  }
}

export async function startReplicas(
  count: number,
  env: Record<string, string>,
  onCrash: (how: string) => void,
  server?: string
): Promise<Replica[]> {
  const replicas: Replica[] = []
  for (let i = 0; i < count; i++) replicas.push(new Replica(await freePort(), env, onCrash, server))
  for (const replica of replicas) replica.start()
  return replicas
}

/** Waits until every one answers 200 at readyz. @throws {Error} when one does not */
export async function allReady(urls: string[], signal: AbortSignal): Promise<void> {
  for (const deadline = Date.now() + READY_WITHIN_MS; ;) {
    const ready = await Promise.all(urls.map(isReady))
    if (!ready.includes(false)) return
    signal.throwIfAborted()
    if (Date.now() > deadline) {
      throw new Error(
        `not ready after ${READY_WITHIN_MS / 1000} s: ${urls.filter((_, i) => !ready[i]).join(', ')}`
      )
    }
    await sleep(50)
  }
}
