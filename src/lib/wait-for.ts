import { setTimeout as sleep } from 'node:timers/promises'
import type { Log } from './logger.ts'
import { StartError } from './start-error.ts'

/**
 * Tries `attempt` until it resolves, with a log line for each failure.
 * @param options.pauseMs between two tries
 * @param options.signal gives up at once, and rejects with the signal's reason; an attempt under way is not
 * waited for
 * @throws {StartError} after that many seconds, with the last reason; or at once, where the attempt throws
 * one
 */
export async function waitFor<Result>(
  engine: string,
  seconds: number,
  log: Pick<Log, 'warn'>,
  attempt: () => Promise<Result>,
  { pauseMs = 500, signal }: { pauseMs?: number; signal?: AbortSignal | undefined } = {}
): Promise<Result> {
  const deadline = Date.now() + seconds * 1000
  for (let tries = 1; ; tries++) {
    signal?.throwIfAborted()
    try {
      return await unlessAborted(signal, attempt())
    } catch (error) {
      signal?.throwIfAborted()
      if (error instanceof StartError) throw error
      const reason =
        error instanceof Error
          ? error.message || String((error as NodeJS.ErrnoException).code)
          : String(error)
      if (Date.now() >= deadline) {
        throw new StartError(`${engine} is not usable after ${seconds} s: ${reason}`)
      }
      log.warn({ tries, reason }, `waiting for ${engine}`)
      await unlessAborted(signal, sleep(pauseMs))
    }
  }
}

/** Waits for `work` until the signal is aborted, and then rejects with its reason. */
export async function unlessAborted<Result>(
  signal: AbortSignal | undefined,
  work: PromiseLike<Result>
): Promise<Result> {
  if (signal === undefined) return work
  let abort = () => {}
  const aborted = new Promise<never>((_resolve, reject) => {
    abort = () => reject(signal.reason)
    if (signal.aborted) abort()
    signal.addEventListener('abort', abort)
  })
  return Promise.race([work, aborted]).finally(() => signal.removeEventListener('abort', abort))
}
