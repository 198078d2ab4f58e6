import { createHistogram } from 'node:perf_hooks'
import { STORM, withLogins } from '../storm.ts'
import { onAllCores } from './processes.ts'
import type { Figure } from './report.ts'
import type { World } from './world.ts'

// Passwords are hashed beside the chat, on another core where there is one.

/**
 * @returns how much longer readers wait while logins are in flight, by turns with none; of all rounds
 * together, because the slowest hundredth of one is a few answers
 */
export async function logins(
  { withService, tokens: [token = ''], signal }: World,
  { rounds, seconds }: { rounds: number; seconds: number }
): Promise<Figure[]> {
  return withService(
    'postgres',
    async ({ url }) => {
      const read = async (count: number, seconds: number) =>
        (await withLogins(url, token, count, seconds, signal)).reads
      // Or the first figures would be those of code that is not compiled yet.
      for (const count of [STORM, 0]) await read(count, 1)
      const [calm, storm] = [createHistogram(), createHistogram()]
      for (let round = 0; round < rounds; round++) {
        calm.add(await read(0, seconds))
        storm.add(await read(STORM, seconds))
      }
      const [without, during] = [calm.percentile(99) / 1000, storm.percentile(99) / 1000]
      return [
        { what: 'GET p99 without logins', value: without, unit: 'ms' },
        { what: `GET p99 with ${STORM} logins in flight`, value: during, unit: 'ms' },
        { what: `GET p99 with ${STORM} logins in flight, against none`, value: during / without, atMost: 1.5 }
      ]
    },
    onAllCores
  )
}
