import { cpus } from 'node:os'
import { parseArgs } from 'node:util'
import { isExternal } from '../../src/config.ts'
import { median } from './bench/report.ts'
import { runCommand, whole } from './command.ts'
import { embedded, withDataDir, withService } from './service.ts'

// `npm run load -- start`: how long the built service takes from the start of its process to the first 200 of
// readyz.

const readArguments = () => {
  const {
    values: { runs }
  } = parseArgs({ options: { runs: { type: 'string', default: '5' } } })
  return whole('runs', runs, 100)
}

/** @returns the milliseconds of one start */
const start = (env: NodeJS.ProcessEnv, signal: AbortSignal) =>
  withService(env, signal, async ({ readyMs }) => readyMs)

const seconds = (ms: number) => `${(ms / 1000).toFixed(2)}`.padStart(8)
const print = (what: string, times: number[]) => {
  console.log(`${what.padEnd(32)}${seconds(median(times))}${seconds(Math.max(...times))}`)
}

async function measure(runs: number, signal: AbortSignal): Promise<boolean> {
  const cores = cpus()
  const machine = `${cores.length} cores (${cores[0]?.model}); Node ${process.versions.node}`
  console.log(`${machine}; seconds from the start of the process to the first 200 of readyz, ${runs} times`)
  console.log(`${''.padEnd(32)}  median     max`)

  const first: number[] = []
  const later: number[] = []
  for (let run = 0; run < runs; run++) {
    await withDataDir(async (DATA_DIR) => {
      for (const times of [first, later]) {
        times.push(await start({ ...process.env, ...embedded, DATA_DIR }, signal))
      }
    })
  }
  print('embedded engines, first start', first)
  print('embedded engines, later start', later)

  if (isExternal('postgres', process.env) && isExternal('redis', process.env)) {
    const external: number[] = []
    for (let run = 0; run < runs; run++) external.push(await start(process.env, signal))
    print('external engines', external)
  }
  return true
}

await runCommand('npm run load -- start [--runs 5]', readArguments, measure)
