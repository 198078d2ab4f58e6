import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, existsSync, openSync, rmSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { engineVariables } from '../../src/config.ts'
import { stopWithParent, freePort } from '../../src/embedded/process.ts'

export const SERVER = fileURLToPath(new URL('../../dist/src/server.js', import.meta.url))
/** What the image sets for Node, and npm start as well (test/package.test.ts). */
export const NODE_SETTINGS = { NODE_OPTIONS: '--max-semi-space-size=16', MALLOC_ARENA_MAX: '2' }
// Above what the service allows itself: BOOT_TIMEOUT for each engine, and 25 s for its end.
const START_TIMEOUT_MS = 90_000
const STOP_TIMEOUT_MS = 30_000
const PROBE_EVERY_MS = 10

/**
 * The built service, running: its origin, its process, and the time from the start of its process to the
 * first 200 of readyz, to about 10 ms.
 */
export interface Service {
  url: string
  pid: number
  readyMs: number
}

/** What makes the service start engines of its own, whatever else the environment says. */
export const embedded = Object.fromEntries(
  Object.values(engineVariables)
    .flat()
    .map((name) => [name, ''])
)

/**
 * Makes an empty DATA_DIR and removes it, with all that is in it, when `work` has settled. @returns what
 * `work` resolves to
 */
export async function withDataDir<Result>(work: (dataDir: string) => Promise<Result>): Promise<Result> {
  const dataDir = await mkdtemp(join(tmpdir(), 'chat-load-'))
  try {
    return await work(dataDir)
  } finally {
    // Retries: after an abrupt end an engine may still be writing there.
    await rm(dataDir, { recursive: true, force: true, maxRetries: 10 })
  }
}

/**
 * Starts the built service on a free loopback port, without rate limits and with its log in a file beside
 * DATA_DIR, and stops it by SIGTERM when `work` has settled.
 * @param env the environment, with DATA_DIR; what it says of the engines goes through
 * @param program another way to start it, or what stands in for it
 * @returns what `work` resolves to
 * @throws {Error} when the service is not built, does not become ready, or ends by itself or with another
 * code than 0; an AbortError when `signal` aborts the start
 */
export async function withService<Result>(
  env: NodeJS.ProcessEnv,
  signal: AbortSignal,
  work: (service: Service) => Promise<Result>,
  program = [process.execPath, SERVER]
): Promise<Result> {
  if (!existsSync(SERVER)) throw new Error('the service is not built: npm run build')
  const port = await freePort()
  const url = `http://127.0.0.1:${port}`
  const [command = '', ...args] = [...stopWithParent(), ...program]
  const started = performance.now()
  const log = `${env['DATA_DIR']}.${port}.log`
  const logFile = openSync(log, 'w')
  const child = spawn(command, args, {
    detached: true, // Ctrl-C reaches this process alone, which then ends the service once and in order.
    stdio: ['ignore', logFile, 2],
    env: {
      ...NODE_SETTINGS,
      ...env,
      HTTP_HOST: '127.0.0.1',
      HTTP_PORT: `${port}`,
      // The whole load comes from one address.
      RATE_LIMIT: 'off',
      MAX_STREAMS_PER_ADDRESS: '10000',
      MAX_LONG_POLLS_PER_ADDRESS: '10000'
    }
  })
  const exited = once(child, 'exit')
  try {
    while (!(await isReady(url))) {
      if (child.exitCode !== null || child.signalCode !== null) {
        throw new Error('the service ended before it was ready')
      }
      if (performance.now() - started > START_TIMEOUT_MS) {
        throw new Error(`no readiness after ${START_TIMEOUT_MS / 1000} s`)
      }
      await sleep(PROBE_EVERY_MS, undefined, { signal })
    }
    return await work({ url, pid: child.pid ?? 0, readyMs: performance.now() - started })
  } finally {
    const lastResort = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS)
    child.kill('SIGTERM')
    const [code, by] = await exited
    clearTimeout(lastResort)
    closeSync(logFile)
    // It may hide an error of `work`, and should: where the service crashed, that one only follows from it.
    if (code !== 0 && !signal.aborted) {
      // eslint-disable-next-line no-unsafe-finally
      throw new Error(`the service ended by ${by ?? `itself, with code ${code}`}: see ${log}`)
    }
    rmSync(log)
  }
}

export async function isReady(url: string): Promise<boolean> {
  try {
    const answer = await fetch(`${url}/health/readyz`, { signal: AbortSignal.timeout(2000) })
    await answer.text()
    return answer.ok
  } catch {
    return false
  }
}
