import { STORM, withLogins } from '../storm.ts'
import { onAllCores } from './processes.ts'
import { type Figure, median } from './report.ts'
import type { World } from './world.ts'

// Passwords are hashed beside the chat, on another core where there is one.

/** @returns how much longer readers wait while logins are in flight, by turns with none */
export async function logins ({ withService, tokens: [token = ''], signal }: World, { rounds, seconds }: { rounds: number, seconds: number }): Promise<Figure[]> {
  return withService('postgres', async ({ url }) => {
    const p99 = async (count: number, seconds: number) => (await withLogins(url, token, count, seconds, signal)).reads.percentile(99) / 1000
    await p99(STORM, 1) // Or the first figures would be those of code that is not compiled yet.
    await p99(0, 1)
    const calm: number[] = []
    const storm: number[] = []
    for (let round = 0; round < rounds; round++) {
      calm.push(await p99(0, seconds))
      storm.push(await p99(STORM, seconds))
    }
    return [
      { what: 'GET p99 without logins', value: median(calm), unit: 'ms' },
      { what: `GET p99 with ${STORM} logins in flight`, value: median(storm), unit: 'ms' },
      { what: `GET p99 with ${STORM} logins in flight, against none`, value: median(storm.map((ms, i) => ms / (calm[i] ?? ms))), atMost: 1.5 }
    ]
  }, onAllCores)
}
