import { cpus } from 'node:os'
import { parseArgs } from 'node:util'
import { median } from './bench/report.ts'
import { runCommand, whole } from './command.ts'
import { post, postMessage } from './scenarios.ts'
import { send, time } from './send.ts'
import { withDataDir, withService } from './service.ts'
import { STORM, withLogins, wrongLogin } from './storm.ts'

// `npm run load -- logins`: whether the time of a login tells who is registered, and what a storm of logins
// does to everybody else.

const readArguments = () => {
  const {
    values: { tries, seconds }
  } = parseArgs({
    options: { tries: { type: 'string', default: '200' }, seconds: { type: 'string', default: '10' } }
  })
  return { tries: whole('tries', tries, 10_000), seconds: whole('seconds', seconds, 600) }
}

async function compare(url: string, tries: number, signal: AbortSignal): Promise<void> {
  const known: number[] = []
  const unknown: number[] = []
  for (let i = 0; i < tries && !signal.aborted; i++) {
    // By turns, so that whatever else this machine does meets both.
    known.push(await time(url, wrongLogin('alice'), 401))
    unknown.push(await time(url, wrongLogin(`nobody ${i}`), 401))
  }
  const [one, other] = [median(known), median(unknown)]
  console.log(
    `wrong password, ${tries} tries each: known nickname ${one.toFixed(1)} ms, unknown ${other.toFixed(1)} ms ` +
      `(medians), ${((100 * Math.abs(one - other)) / one).toFixed(1)} % apart`
  )
}

/** @returns the p99 of reads and posts while `logins` logins are in flight all the time */
async function measure(url: string, token: string, logins: number, seconds: number, signal: AbortSignal) {
  const { reads, posts, logins: storm } = await withLogins(url, token, logins, seconds, signal)
  const ms = (percentile: number, histogram: typeof reads) =>
    (histogram.percentile(percentile) / 1000).toFixed(1).padStart(8)
  console.log(
    `${String(logins).padStart(2)} logins in flight: GET p50${ms(50, reads)}, p99${ms(99, reads)} (${reads.count});` +
      ` POST p50${ms(50, posts)}, p99${ms(99, posts)} (${posts.count}); logins ${Math.round(storm.count / seconds)}/s`
  )
  return { read: reads.percentile(99), post: posts.percentile(99) }
}

await runCommand(
  'npm run load -- logins [--tries 200] [--seconds 10]',
  readArguments,
  async ({ tries, seconds }, signal) => {
    const cores = cpus()
    console.log(
      `${cores.length} cores (${cores[0]?.model}), shared by load and service; Node ${process.versions.node}; milliseconds`
    )
    return withDataDir((DATA_DIR) =>
      withService({ ...process.env, DATA_DIR }, signal, async ({ url }) => {
        const { body } = await send(
          url,
          post('/api/register', { nickname: 'alice', password: 'correct horse' })
        )
        const { token }: { token: string } = JSON.parse(body)
        for (let i = 0; i < 100; i++) await time(url, postMessage(token), 201)
        // Or the first figures would be those of code that is not compiled yet.
        await measure(url, token, 0, 1, signal)
        await compare(url, tries, signal)
        // By turns, too.
        const ratios: { read: number; post: number }[] = []
        for (let round = 0; round < 3 && !signal.aborted; round++) {
          const calm = await measure(url, token, 0, seconds, signal)
          const storm = await measure(url, token, STORM, seconds, signal)
          ratios.push({ read: storm.read / calm.read, post: storm.post / calm.post })
        }
        console.log(
          `p99 with ${STORM} logins in flight against none (median of ${ratios.length}): ` +
            `GET ${median(ratios.map(({ read }) => read)).toFixed(1)}, POST ${median(ratios.map(({ post }) => post)).toFixed(1)}`
        )
        return true
      })
    )
  }
)
