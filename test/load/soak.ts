import { randomBytes } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { Agent, get } from 'node:http'
import { cpus } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { residentKib } from './bench/processes.ts'
import { runCommand, whole } from './command.ts'
import { atRate } from './pace.ts'
import { register, say } from './send.ts'
import { withDataDir, withService } from './service.ts'

// `npm run load -- soak`: what the service's memory does under a steady load, with many open event streams.
// Linux only.

const USAGE = 'npm run load -- soak [--minutes 10] [--streams 500] [--posts 20] [--polls 500] [--svg FILE]'
interface Arguments {
  minutes: number
  streams: number
  posts: number
  polls: number
  svg: string | undefined
}
interface Sample {
  seconds: number
  mib: number
  posts: number
  deliveries: number
}

const SAMPLE_SECONDS = 5

function readArguments(): Arguments {
  const {
    values: { minutes, streams, posts, polls, svg }
  } = parseArgs({
    options: {
      minutes: { type: 'string', default: '10' },
      streams: { type: 'string', default: '500' },
      posts: { type: 'string', default: '20' },
      polls: { type: 'string', default: '500' },
      svg: { type: 'string' }
    }
  })
  return {
    minutes: whole('minutes', minutes, 60),
    streams: whole('streams', streams, 10_000),
    posts: whole('posts', posts, 1000),
    polls: whole('polls', polls, 1000),
    svg
  }
}

async function soak(
  { url, pid }: { url: string; pid: number },
  { minutes, streams, posts, polls }: Arguments,
  signal: AbortSignal
): Promise<{ samples: Sample[]; failures: number }> {
  const token = await register(url)
  let [posted, delivered, newest] = [0, 0, 0]
  const agent = new Agent({ maxSockets: Infinity })
  for (let n = 0; n < streams; n++) {
    get(`${url}/api/events`, { agent }, (response) => {
      response
        .on('data', (bytes: Buffer) => {
          for (let i = bytes.indexOf('\ndata: '); i >= 0; i = bytes.indexOf('\ndata: ', i + 1)) delivered++
        })
        .on('error', () => {})
    }).on('error', () => {})
  }

  const start = performance.now()
  const until = start + minutes * 60_000
  const samples: Sample[] = []
  let failures = 0
  const steadily = (rate: number, work: () => Promise<void>) =>
    atRate(rate, minutes * 60, signal, () =>
      work().catch(() => {
        failures++
      })
    )
  await Promise.all([
    steadily(posts, async () => {
      newest = await say(url, randomBytes(60).toString('hex'), token)
      posted++
    }),
    steadily(polls, async () => {
      const response = await fetch(`${url}/api/messages?after_id=${newest - 1}`)
      if (!response.ok) throw new Error(`answered ${response.status}`)
      await response.arrayBuffer()
    }),
    (async () => {
      while (performance.now() < until) {
        samples.push({
          seconds: Math.round((performance.now() - start) / 1000),
          mib: residentKib(pid) / 1024,
          posts: posted,
          deliveries: delivered
        })
        await sleep(SAMPLE_SECONDS * 1000, undefined, { signal })
      }
    })()
  ])
  agent.destroy()
  return { samples, failures }
}

/** Draws the memory over the time. */
function draw(samples: Sample[], title: string): string {
  const [width, height, left, bottom] = [720, 260, 50, 30]
  const last = samples.at(-1)?.seconds ?? 1
  const top = Math.ceil(Math.max(...samples.map(({ mib }) => mib)) / 50) * 50
  const x = (seconds: number) => (left + (seconds / last) * (width - left - 10)).toFixed(1)
  const y = (mib: number) => (height - bottom - (mib / top) * (height - bottom - 30)).toFixed(1)
  const rows = Array.from({ length: top / 50 + 1 }, (_, i) => i * 50).map(
    (mib) =>
      `<path d="M${left} ${y(mib)}H${width - 10}" stroke="#8884"/><text x="${left - 6}" y="${y(mib)}" text-anchor="end" dominant-baseline="middle">${mib}</text>`
  )
  const columns = Array.from({ length: Math.floor(last / 60) + 1 }, (_, i) => i).map(
    (minute) => `<text x="${x(minute * 60)}" y="${height - 10}" text-anchor="middle">${minute} min</text>`
  )
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="11" fill="#777">
<text x="${left}" y="16">${title}</text>
${[...rows, ...columns].join('\n')}
<polyline fill="none" stroke="#2a7de1" stroke-width="1.5" points="${samples.map(({ seconds, mib }) => `${x(seconds)},${y(mib)}`).join(' ')}"/>
</svg>
`
}

await runCommand(USAGE, readArguments, (given, signal) =>
  withDataDir((DATA_DIR) =>
    withService({ ...process.env, DATA_DIR }, signal, async (service) => {
      const { minutes, streams, posts, polls, svg } = given
      const what = `${streams} event streams, ${posts} posts/s, ${polls} polls/s`
      console.log(
        `${cpus().length} cores (${cpus()[0]?.model}), shared by load, service and engines; Node ${process.versions.node}; ${what} for ${minutes} min`
      )
      const { samples, failures } = await soak(service, given, signal)
      console.log('seconds  MiB resident     posts  deliveries')
      for (const { seconds, mib, posts, deliveries } of samples.filter(
        ({ seconds }) => seconds % 60 < SAMPLE_SECONDS
      )) {
        console.log(
          `${`${seconds}`.padStart(7)}${mib.toFixed(0).padStart(14)}${`${posts}`.padStart(10)}${`${deliveries}`.padStart(12)}`
        )
      }
      console.log(`${failures} failures`)
      if (svg !== undefined) {
        writeFileSync(
          svg,
          draw(samples, `Resident memory of the service in MiB, Node ${process.versions.node}: ${what}`)
        )
      }
      return failures === 0
    })
  )
)
