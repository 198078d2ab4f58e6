import { setTimeout as sleep } from 'node:timers/promises'

/**
 * Calls `work` at a steady rate, whether or not the calls before have settled. @returns when all of them have
 * @throws what the first failure was
 */
export async function atRate(
  perSecond: number,
  seconds: number,
  signal: AbortSignal,
  work: (n: number) => Promise<void>
): Promise<void> {
  const calls = new Set<Promise<void>>()
  const failures: Error[] = []
  const start = performance.now()
  for (let n = 0; n < perSecond * seconds; n++) {
    await sleep(Math.max(0, start + (n * 1000) / perSecond - performance.now()), undefined, { signal })
    const call: Promise<void> = work(n)
      .catch((error: Error) => {
        failures.push(error)
      })
      .finally(() => calls.delete(call))
    calls.add(call)
  }
  await Promise.all(calls)
  if (failures[0]) throw failures[0]
}
