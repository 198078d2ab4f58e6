import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyBaseLogger } from 'fastify'

export type Log = Pick<FastifyBaseLogger, 'info' | 'warn' | 'error'>

/** Ends the start; its message is the one line that the operator reads. */
export class StartError extends Error {}

/** Tries `attempt` until it resolves, with a log line for each failure. @throws {StartError} after that many seconds, with the last reason */
export async function waitFor<Result> (engine: string, seconds: number, log: Pick<Log, 'warn'>,
  attempt: () => Promise<Result>, pauseMs = 500): Promise<Result> {
  const deadline = Date.now() + seconds * 1000
  for (let tries = 1; ; tries++) {
    try {
      return await attempt()
    } catch (error) {
      const reason = error instanceof Error ? error.message || String((error as NodeJS.ErrnoException).code) : String(error)
      if (Date.now() >= deadline) throw new StartError(`${engine} is not usable after ${seconds} s: ${reason}`)
      log.warn({ tries, reason }, `waiting for ${engine}`)
      await sleep(pauseMs)
    }
  }
}
