import { cpus } from 'node:os'
import { createHistogram, type RecordableHistogram } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { loadConfig } from '../../src/config.ts'
import { startEngines } from '../../src/embedded/engines.ts'
import { readEvents } from '../helpers/events.ts'
import { runCommand, whole } from './command.ts'
import { atRate } from './pace.ts'
import { register, say } from './send.ts'
import { withDataDir, withService } from './service.ts'

// `npm run load -- delivery`: the time from a POST on one replica to its event on a stream of another.

const BUDGET_MS = 100
const WARM_UP_SECONDS = 1
// The service promises 2 s even where the announcement was lost.
const LATE_MS = 5000

const USAGE = 'npm run load -- delivery [--seconds 10] [--rate 50]'
interface Arguments {
  seconds: number
  rate: number
}

const readArguments = (): Arguments => {
  const {
    values: { seconds, rate }
  } = parseArgs({
    options: { seconds: { type: 'string', default: '10' }, rate: { type: 'string', default: '50' } }
  })
  return { seconds: whole('seconds', seconds, 600), rate: whole('rate', rate, 1000) }
}

const print = (what: string, times: RecordableHistogram) =>
  console.log(
    [
      what.padEnd(32),
      ...[times.percentile(50), times.percentile(99), times.max].map((us) =>
        (us / 1000).toFixed(1).padStart(8)
      )
    ].join('')
  )

/** Posts at a steady rate, whether or not the answers keep up. @returns whether every event came */
async function measure(
  from: string,
  to: string,
  { seconds, rate }: Arguments,
  signal: AbortSignal
): Promise<boolean> {
  const token = await register(from)
  const [answers, deliveries] = [createHistogram(), createHistogram()]
  const sent = new Map<string, number>()
  const stream = await fetch(`${to}/api/events`)
  const read = async () => {
    for await (const { text = '' } of readEvents(stream)) {
      const since = sent.get(text)
      if (since !== undefined) deliveries.record(Math.max(1, Math.round((performance.now() - since) * 1000)))
      sent.delete(text)
    }
  }
  read().catch(() => {}) // It ends with the replica; what did not come until then is counted.

  const warmUp = WARM_UP_SECONDS * rate
  await atRate(rate, WARM_UP_SECONDS + seconds, signal, async (n) => {
    const text = `message ${n}`
    const started = performance.now()
    if (n >= warmUp) sent.set(text, started)
    await say(from, text, token)
    if (n >= warmUp) answers.record(Math.max(1, Math.round((performance.now() - started) * 1000)))
  })
  for (const deadline = Date.now() + LATE_MS; sent.size > 0 && Date.now() < deadline;) await sleep(10)
  print('from the POST to its answer', answers)
  print('from the POST to the event', deliveries)
  if (sent.size > 0) console.error(`${sent.size} events did not come`)
  if (deliveries.percentile(99) > BUDGET_MS * 1000) {
    console.error(`the budget is ${BUDGET_MS} ms for 99 of 100`)
  }
  return sent.size === 0
}

await runCommand(USAGE, readArguments, (given, signal) =>
  withDataDir(async (DATA_DIR) => {
    const cores = cpus()
    console.log(
      `${cores.length} cores (${cores[0]?.model}), shared by two replicas, their engines and this; Node ${process.versions.node}; ` +
        `${given.rate} posts/s for ${given.seconds} s, each on one replica, with the stream of the other; milliseconds`
    )
    console.log(`${''.padEnd(32)}     p50     p99     max`)
    const engines = await startEngines(loadConfig({ ...process.env, DATA_DIR }), {
      info: () => {},
      warn: () => {},
      error: () => {}
    })
    const env = {
      ...process.env,
      ...Object.fromEntries(Object.entries(engines.settings).map(([name, value]) => [name, `${value}`]))
    }
    try {
      return await withService(env, signal, ({ url: from }) =>
        withService(env, signal, ({ url: to }) => measure(from, to, given, signal))
      )
    } finally {
      await engines.stop()
    }
  })
)
