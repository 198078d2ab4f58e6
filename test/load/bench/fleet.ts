import { createHistogram, type RecordableHistogram } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { Follower } from '../../../src/chat/follower.ts'
import { LogChannel } from '../../../src/chat/log-channel.ts'
import { Timeline } from '../../../src/chat/timeline.ts'
import type { Config } from '../../../src/config.ts'
import { OnlineCount } from '../../../src/moderation/online.ts'
import { connectionOptions } from '../../../src/plugins/postgres.ts'
import { createClient } from '../../../src/plugins/redis.ts'
import { atRate } from '../pace.ts'
import { say } from '../send.ts'
import { most, withReplicas } from './replicas.ts'
import { type Figure, median } from './report.ts'
import type { World } from './world.ts'

// What many replicas cost PostgreSQL and Redis, and when the last of them has an event. One replica is real;
// of the others there is only what follows the log, the service's own code, all of them in this process.

const FOLLOWERS = [1, 10, 50, 100, 200]
const POSTS_PER_SECOND = 50
const WARM_UP_SECONDS = 3
const TIMEOUT_MS = 10_000
const REPLICAS = 4

const silent = { info: () => {}, warn: () => {}, error: () => {} }

/** Followers of the log in this process. `delays` are those of the last one, in microseconds. */
class Fleet {
  delays: RecordableHistogram = createHistogram()
  #size = 0
  #stops: (() => Promise<void>)[] = []
  #missing = new Map<string, number>()

  async start(config: Config, count: number): Promise<void> {
    await Promise.all(Array.from({ length: count }, () => this.#startOne(config)))
  }

  async #startOne(config: Config): Promise<void> {
    const redis = createClient(config, () => false).client
    redis.on('error', () => {}) // as its commands say
    await redis.connect()
    const online = new OnlineCount(redis, () => 0)
    online.start()
    const channel = new LogChannel({
      redis,
      createSubscriber: () => createClient(config, () => false).client,
      hasPeers: () => online.hasPeers,
      log: silent
    })
    const timeline = new Timeline()
    const follower = new Follower(timeline, connectionOptions(config), silent, () => true, channel)
    this.#size++
    this.#stops.push(async () => {
      await online.stop()
      await follower.stop()
      channel.stop()
      redis.disconnect()
    })
    await follower.start()
    timeline.on('frames', (frames) => this.#arrived(frames))
  }

  async stop(): Promise<void> {
    await Promise.all(this.#stops.map((stop) => stop()))
  }

  /** @returns what to post, so that the time from now to the last follower counts */
  next(): string {
    const text = `sent ${performance.now()}`
    this.#missing.set(text, this.#size)
    return text
  }

  #arrived(frames: Buffer[]): void {
    for (const [text, sent] of Buffer.concat(frames)
      .toString()
      .matchAll(/(?<=")sent ([\d.]+)(?=")/g)) {
      const missing = (this.#missing.get(text) ?? 0) - 1
      if (missing > 0) this.#missing.set(text, missing)
      else if (this.#missing.delete(text)) {
        this.delays.record(Math.max(1, Math.round((performance.now() - Number(sent)) * 1000)))
      }
    }
  }

  /** Resolves when every follower has everything. What does not come counts as late as that. */
  async got(): Promise<void> {
    for (const deadline = Date.now() + TIMEOUT_MS; this.#missing.size > 0 && Date.now() < deadline;) {
      await sleep(5)
    }
    for (const text of this.#missing.keys()) {
      this.#missing.delete(text)
      this.delays.record(TIMEOUT_MS * 1000)
    }
  }
}

interface Cost {
  postgres: number
  redis: number
}

async function follow(
  world: World,
  count: number,
  seconds: number
): Promise<{ cost: Cost; delays: RecordableHistogram }> {
  return world.withService('postgres', async ({ url }) => {
    const fleet = new Fleet()
    const post = (duration: number) =>
      atRate(POSTS_PER_SECOND, duration, world.signal, async () => {
        await say(url, fleet.next(), world.tokens[0])
      })
    await fleet.start(world.config('postgres'), count)
    try {
      await post(WARM_UP_SECONDS)
      await fleet.got()
      fleet.delays = createHistogram()
      const [before, at] = [world.cpu(), performance.now()]
      await post(seconds)
      const [after, took] = [world.cpu(), (performance.now() - at) / 1000]
      await fleet.got()
      const perSecond = (part: 'postgres' | 'redis') => ((after[part] - before[part]) * 1000) / took
      return { cost: { postgres: perSecond('postgres'), redis: perSecond('redis') }, delays: fleet.delays }
    } finally {
      await fleet.stop()
    }
  })
}

export async function fleet(
  world: World,
  { rounds, seconds }: { rounds: number; seconds: number }
): Promise<Figure[]> {
  const figures: Figure[] = []
  let alone: Cost | undefined
  for (const count of FOLLOWERS) {
    const { cost, delays } = await follow(world, count, rounds * seconds)
    alone ??= cost
    const name = `${count} ${count === 1 ? 'follower' : 'followers'}`
    figures.push(
      { what: `${name}: CPU of PostgreSQL`, value: cost.postgres, unit: 'ms/s' },
      { what: `${name}: CPU of Redis`, value: cost.redis, unit: 'ms/s' },
      {
        what: `${name}: CPU of PostgreSQL against 1`,
        value: cost.postgres / alone.postgres,
        ...(count <= 100 && { atMost: 1.3 })
      },
      { what: `${name}: POST to event at the last, p50`, value: delays.percentile(50) / 1000, unit: 'ms' },
      {
        what: `${name}: POST to event at the last, p99`,
        value: delays.percentile(99) / 1000,
        unit: 'ms',
        atMost: 100
      }
    )
  }
  const posts: number[] = []
  for (const count of [1, REPLICAS]) {
    await withReplicas(world, count, async (replicas) => {
      const found: number[] = []
      await most(world, replicas, WARM_UP_SECONDS)
      for (let round = 0; round < rounds; round++) found.push(await most(world, replicas, seconds))
      posts.push(median(found))
    })
  }
  const [one = NaN, several = NaN] = posts
  figures.push(
    { what: 'one replica: posts/s', value: one },
    { what: `${REPLICAS} replicas: posts/s`, value: several },
    { what: `${REPLICAS} replicas: posts/s against one`, value: several / one, atLeast: 0.9 }
  )
  return figures
}
