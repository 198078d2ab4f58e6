import { setTimeout as sleep } from 'node:timers/promises'
import { onAllCores, residentKib } from './processes.ts'
import { type Figure, median } from './report.ts'
import type { World } from './world.ts'

const REST_MS = 1000

/** @returns how long the service takes to be ready while the engines are up, and what it holds then */
export async function start({ withService }: World, { rounds }: { rounds: number }): Promise<Figure[]> {
  const found: { seconds: number; mib: number }[] = []
  for (let round = 0; round < rounds; round++) {
    found.push(
      await withService(
        'postgres',
        async ({ readyMs, pid }) => {
          await sleep(REST_MS)
          return { seconds: readyMs / 1000, mib: residentKib(pid) / 1024 }
        },
        onAllCores
      )
    )
  }
  return [
    {
      what: 'start to the first 200 of readyz, engines up',
      value: median(found.map(({ seconds }) => seconds)),
      unit: 's',
      atMost: 0.4
    },
    {
      what: 'memory of the service after its start',
      value: median(found.map(({ mib }) => mib)),
      unit: 'MiB',
      atMost: 100
    }
  ]
}
