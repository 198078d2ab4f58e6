import { randomInt, randomUUID } from 'node:crypto'
import type autocannon from 'autocannon'
import { fireWell } from '../fire.ts'
import { post, postAsMany, postMessage, type Room, scenarios } from '../scenarios.ts'
import type { Service } from '../service.ts'
import { residentKib } from './processes.ts'
import { median, type Row } from './report.ts'
import { type Cpu, NAIVE, UNORDERED, type World } from './world.ts'

// Requests as fast as the answers come, of the service and of its rivals, by turns.

export interface Scenario {
  name: string
  rivals: string[]
  connections: number
  options: (room: Room, tokens: string[]) => Partial<autocannon.Options>
}

const WARM_UP_SECONDS = 1

const posts = (connections: number): Scenario => ({
  name: `post, ${connections} connection${connections > 1 ? 's' : ''}`,
  rivals: ['service', 'naive', 'unordered'],
  connections,
  options: (_room, tokens) => postAsMany(tokens)
})

const SCENARIOS: Scenario[] = [
  {
    name: 'page of 50',
    rivals: ['service', 'bare', 'node', 'naive'],
    connections: 16,
    options: scenarios['page']!
  },
  { name: 'empty poll', rivals: ['service', 'bare', 'naive'], connections: 16, options: scenarios['poll']! },
  {
    name: 'page at random depth',
    rivals: ['service', 'naive'],
    connections: 16,
    options: ({ newest }) => ({
      requests: Array.from({ length: 500 }, () => ({
        path: `/api/messages?before_id=${newest - randomInt(900)}`
      }))
    })
  },
  {
    name: 'mixed, 100 polls : 1 post',
    rivals: ['service', 'naive'],
    connections: 16,
    options: scenarios['mixed']!
  },
  ...[1, 16, 64, 256].map(posts)
]

/** A service that runs already, perhaps elsewhere, with users and messages of its own. */
interface Peer {
  url: string
  tokens: string[]
}

interface Sample {
  perSecond: number
  p50: number
  p99: number
  service: number
  postgres: number
  redis: number
}

async function measure(
  world: Pick<World, 'tokens' | 'signal' | 'cpu'>,
  service: Service | Peer,
  { connections, options }: Scenario,
  seconds: number
): Promise<Sample> {
  const { url } = service
  const [newest] = (await (await fetch(`${url}/api/messages?limit=1`)).json()) as { id: number }[]
  const room = {
    credentials: { nickname: '', password: '' },
    token: world.tokens[0] ?? '',
    newest: newest?.id ?? 0
  }
  const cpu = () => ('pid' in service ? world.cpu(service.pid) : undefined)
  const before = cpu()
  const { result, latencies } = await fireWell(
    { url, duration: seconds, connections, ...options(room, world.tokens) },
    world.signal
  )
  const after = cpu()
  const each = (part: keyof Cpu) =>
    before && after ? ((after[part] - before[part]) * 1e6) / result.requests.total : NaN
  return {
    perSecond: result.requests.total / result.duration,
    p50: latencies.percentile(50) / 1000,
    p99: latencies.percentile(99) / 1000,
    service: each('service'),
    postgres: each('postgres'),
    redis: each('redis')
  }
}

/**
 * Runs each scenario on its rivals by turns. @returns a row of medians for each, and the medians of what
 * `base` is to it within each round
 */
export async function compare(
  world: World,
  scenarios: Scenario[],
  started: Record<string, Service | Peer>,
  base: string,
  { rounds, seconds }: { rounds: number; seconds: number }
): Promise<Row[]> {
  const samples = new Map<string, Sample[]>()
  const run = (scenario: Scenario, rival: string, seconds: number) => {
    const service = started[rival]!
    const tokens = 'tokens' in service ? service.tokens : world.tokens
    return measure({ ...world, tokens }, service, scenario, seconds)
  }
  for (const scenario of scenarios) {
    for (const rival of scenario.rivals) await run(scenario, rival, WARM_UP_SECONDS)
  }
  for (let round = 0; round < rounds; round++) {
    for (const scenario of scenarios) {
      // The first of one round is the last of the next.
      for (const rival of round % 2 === 0 ? scenario.rivals : scenario.rivals.toReversed()) {
        const key = `${scenario.name}\n${rival}`
        samples.set(key, [...(samples.get(key) ?? []), await run(scenario, rival, seconds)])
      }
    }
  }
  return [...samples].map(([key, all]) => {
    const [scenario = '', rival = ''] = key.split('\n')
    const others = samples.get(`${scenario}\n${base}`) ?? []
    const middle = (value: (sample: Sample) => number) => median(all.map(value))
    const against = (value: (sample: Sample) => number) =>
      median(all.map((sample, i) => value(others[i] ?? sample) / value(sample)))
    const total = ({ service, postgres, redis }: Sample) => service + postgres + redis
    return {
      scenario,
      rival,
      perSecond: middle((s) => s.perSecond),
      p50: middle((s) => s.p50),
      p99: middle((s) => s.p99),
      service: middle((s) => s.service),
      postgres: middle((s) => s.postgres),
      redis: middle((s) => s.redis),
      ratios: {
        perSecond: against((s) => s.perSecond),
        p50: against((s) => s.p50),
        service: against((s) => s.service),
        total: against(total)
      }
    }
  })
}

const PEER_USERS = 16
const PEER_MESSAGES = 50

async function send(url: string, request: ReturnType<typeof post>): Promise<{ token: string }> {
  const { path, ...init } = request
  const response = await fetch(`${url}${path}`, init)
  if (!response.ok) throw new Error(`${url}${path} answered ${response.status}: ${await response.text()}`)
  return (await response.json()) as { token: string }
}

/**
 * Makes users and a page of messages on a service that speaks the seed's contract.
 * @throws {Error} when it does not, or when its rate limits refuse that
 */
async function meet(url: string): Promise<Peer> {
  const tokens: string[] = []
  for (let i = 0; i < PEER_USERS; i++) {
    const account = { nickname: `bench ${randomUUID()}`, password: randomUUID() }
    tokens.push((await send(url, post('/api/register', account))).token)
  }
  for (let i = 0; i < PEER_MESSAGES; i++) await send(url, postMessage(tokens[i % PEER_USERS] ?? ''))
  return { url, tokens }
}

/**
 * Compares the service with a peer that runs already: pages, polls and posts. CPU is known of the service
 * alone.
 */
export async function against(
  world: World,
  given: { rounds: number; seconds: number; only: string },
  url: string
): Promise<Row[]> {
  const chosen = SCENARIOS.filter(({ name }) => name.includes(given.only)).map((scenario) => ({
    ...scenario,
    rivals: ['service', 'peer']
  }))
  const peer = await meet(url.replace(/\/$/, ''))
  return world.withService('postgres', (service) =>
    compare(world, chosen, { service, peer }, 'service', given)
  )
}

/**
 * @param given its `only` is a part of the names of the scenarios to run
 * @returns what they cost, and the MiB that the service holds after all of them
 */
export async function requests(
  world: World,
  given: { rounds: number; seconds: number; only: string }
): Promise<{ rows: Row[]; mib: number }> {
  const chosen = SCENARIOS.filter(({ name }) => name.includes(given.only))
  const naiveOn = <Result>(POSTGRES_DB: string, use: (rival: Service) => Promise<Result>) =>
    world.withRival('naive.ts', { POSTGRES_DB }, use)
  return world.withService('postgres', (service) =>
    naiveOn(NAIVE, (naive) =>
      naiveOn(UNORDERED, (unordered) => {
        const limit = <Result>(LIMIT: string, use: (rival: Service) => Promise<Result>) =>
          world.withRival('limits.ts', { LIMIT, PAGE_URL: `${service.url}/api/messages?limit=50` }, use)
        return limit('bare', (bare) =>
          limit('node', async (node) => {
            const rows = await compare(
              world,
              chosen,
              { service, bare, node, naive, unordered },
              'service',
              given
            )
            return { rows, mib: residentKib(service.pid) / 1024 }
          })
        )
      })
    )
  )
}
