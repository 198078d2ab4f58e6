import { setTimeout as sleep } from 'node:timers/promises'
import { fireWell } from '../fire.ts'
import { atRate } from '../pace.ts'
import { postAsMany } from '../scenarios.ts'
import { say } from '../send.ts'
import type { Service } from '../service.ts'
import { type Figure, median } from './report.ts'
import type { World } from './world.ts'

// What replicas on one database cost it and Redis, and what they bear together. On this machine they share
// one core.

const REPLICAS = [1, 2, 4]
const STEADY_SECONDS = 5
const STEADY_POSTS = 50
const CONNECTIONS = 64
// Until V8 has compiled what posts run: each of several replicas gets only a part of them.
const WARM_UP_SECONDS = 5

/** Starts that many replicas of the service. */
export const withReplicas = <Result>(
  world: World,
  count: number,
  use: (replicas: Service[]) => Promise<Result>,
  replicas: Service[] = []
): Promise<Result> =>
  replicas.length === count
    ? use(replicas)
    : world.withService('postgres', (replica) => withReplicas(world, count, use, [...replicas, replica]))

const COUNT_CONNECTIONS =
  "select count(*)::int as count from pg_stat_activity where application_name like 'chat-backend%'"
const TRANSACTIONS =
  "select (xact_commit + xact_rollback)::int as count from pg_stat_database where datname = 'postgres'"

/** @returns the transactions and the CPU seconds of PostgreSQL for each second of `work` */
async function cost(
  { sql, cpu }: World,
  work: () => Promise<unknown>
): Promise<{ transactions: number; cpu: number }> {
  const transactions = async () => (await sql('postgres', TRANSACTIONS)).rows[0].count as number
  const before = { count: await transactions(), cpu: cpu().postgres, at: performance.now() }
  await work()
  const seconds = (performance.now() - before.at) / 1000
  return {
    cpu: (cpu().postgres - before.cpu) / seconds,
    transactions: ((await transactions()) - before.count) / seconds
  }
}

/**
 * @returns the posts/s of connections that are spread over the replicas, each another user, as fast as the
 * answers come
 */
export async function most(
  { tokens, signal }: World,
  replicas: Service[],
  duration: number
): Promise<number> {
  const connections = CONNECTIONS / replicas.length
  const outcomes = await Promise.all(
    replicas.map(({ url }, i) =>
      fireWell({ url, duration, connections, ...postAsMany(tokens.slice(i * connections)) }, signal)
    )
  )
  return outcomes.reduce((sum, { result }) => sum + result.requests.total / result.duration, 0)
}

export async function replicas(
  world: World,
  { rounds, seconds }: { rounds: number; seconds: number }
): Promise<Figure[]> {
  const figures: Figure[] = []
  for (const count of REPLICAS) {
    await withReplicas(world, count, async (replicas) => {
      const idle = await cost(world, () => sleep(STEADY_SECONDS * 1000, undefined, { signal: world.signal }))
      const steady = await cost(world, () =>
        atRate(STEADY_POSTS, STEADY_SECONDS, world.signal, async (n) => {
          await say(replicas[n % count]!.url, `message ${n}`, world.tokens[0])
        })
      )
      await most(world, replicas, WARM_UP_SECONDS)
      const posts: number[] = []
      for (let round = 0; round < rounds; round++) posts.push(await most(world, replicas, seconds))
      const {
        rows: [connections]
      } = await world.sql('postgres', COUNT_CONNECTIONS)
      const name = count > 1 ? `${count} replicas` : '1 replica'
      figures.push(
        { what: `${name}: connections to PostgreSQL after all this`, value: connections.count },
        { what: `${name}: connections to Redis`, value: await world.redisConnections() },
        { what: `${name}, idle: transactions/s`, value: idle.transactions },
        { what: `${name}, idle: CPU of PostgreSQL`, value: idle.cpu * 1000, unit: 'ms/s' },
        { what: `${name}, ${STEADY_POSTS} posts/s: transactions/s`, value: steady.transactions },
        {
          what: `${name}, ${STEADY_POSTS} posts/s: CPU of PostgreSQL`,
          value: steady.cpu * 1000,
          unit: 'ms/s'
        },
        { what: `${name}, ${CONNECTIONS} connections: posts/s`, value: median(posts) }
      )
    })
  }
  return figures
}
