import { createHistogram, type RecordableHistogram } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { post, postMessage } from './scenarios.ts'
import { time } from './send.ts'

// Readers and a writer at a steady pace beside a storm of logins.

const READERS = 4
export const STORM = 32

/** A login that fails, and costs as much as one that does not. */
export const wrongLogin = (nickname: string) => post('/api/login', { nickname, password: 'no horse at all' })

/**
 * Reads and posts while `count` logins are in flight all the time. @returns how long each took, in
 * microseconds
 */
export async function withLogins(
  url: string,
  token: string,
  count: number,
  seconds: number,
  signal: AbortSignal
): Promise<Record<'reads' | 'posts' | 'logins', RecordableHistogram>> {
  const deadline = performance.now() + seconds * 1000
  const [reads, posts, logins] = [createHistogram(), createHistogram(), createHistogram()]
  const microseconds = (ms: number) => Math.max(1, Math.round(ms * 1000))
  const repeat = async (count: number, work: () => Promise<unknown>) => {
    await Promise.all(
      Array.from({ length: count }, async () => {
        while (performance.now() < deadline && !signal.aborted) await work()
      })
    )
  }
  await Promise.all([
    repeat(READERS, async () => {
      reads.record(microseconds(await time(url, { path: '/api/messages?limit=50' }, 200)))
      await sleep(5)
    }),
    repeat(1, async () => {
      posts.record(microseconds(await time(url, postMessage(token), 201)))
      await sleep(20)
    }),
    repeat(count, async () => logins.record(microseconds(await time(url, wrongLogin('alice'), 401))))
  ])
  signal.throwIfAborted()
  return { reads, posts, logins }
}
