import { setTimeout as sleep } from 'node:timers/promises'
import type { Log } from './logger.ts'
import { reasonOf } from './reason.ts'
import { StartError } from './start-error.ts'

/**
 * Retries `attempt` until it resolves, and logs each failure.
 * @param options.pauseMs between two attempts
 * @param options.signal rejects at once with the signal's reason, even while an attempt is under way
 * @throws {StartError} after `seconds`, with the last failure; or at once if the attempt throws one
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
      const reason = reasonOf(error)
      if (Date.now() >= deadline) {
        throw new StartError(`${engine} is not usable after ${seconds} s: ${reason}`)
      }
      log.warn({ tries, reason }, `waiting for ${engine}`)
      await sleep(pauseMs, undefined, { signal }).catch(() => {}) // when aborted
    }
  }
}

/** Waits for `work`, but rejects with the signal's reason as soon as it aborts. */
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
