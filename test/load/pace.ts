import { setTimeout as sleep } from 'node:timers/promises'

/** Calls `work` at a steady rate, whether or not the calls before have settled. @returns when all of them have */
export async function atRate (perSecond: number, total: number, signal: AbortSignal, work: (n: number) => Promise<void>): Promise<void> {
  const calls: Promise<void>[] = []
  const start = performance.now()
  for (let n = 0; n < total; n++) {
    await sleep(Math.max(0, start + n * 1000 / perSecond - performance.now()), undefined, { signal })
    const call = work(n)
    call.catch(() => {}) // Told at the end; until then it would end this process, with its engines still there.
    calls.push(call)
  }
  await Promise.all(calls)
}
