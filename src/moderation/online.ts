import { randomUUID } from 'node:crypto'
import type { Cluster, Redis } from 'ioredis'

// A sorted set of `<replica>:<open streams>`, scored by expiry in milliseconds.
const KEY = 'chat-backend:online'
const EVERY_MS = 2000
const EXPIRES_MS = 10_000

/**
 * Counts the open event streams of all replicas. Each replica publishes its number in Redis, so the sum is a
 * few seconds old, and the streams of a replica that died count for a moment longer. Without Redis, only the
 * streams of this replica count.
 */
export class OnlineCount {
  #redis: Redis | Cluster
  #own: () => number
  #replica = randomUUID()
  #told: string | undefined
  #others = 0
  #hasPeers = true // as long as nobody knows
  #timer: NodeJS.Timeout | undefined

  /** @param own returns the number of open streams of this replica */
  constructor(redis: Redis | Cluster, own: () => number) {
    this.#redis = redis
    this.#own = own
  }

  get value(): number {
    return this.#others + this.#own()
  }

  /** Whether there may be other replicas. */
  get hasPeers(): boolean {
    return this.#hasPeers
  }

  start(): void {
    this.#timer = setInterval(() => this.#exchangeInBackground(), EVERY_MS)
    this.#exchangeInBackground()
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer)
    if (this.#told !== undefined) await this.#redis.zrem(KEY, this.#told).catch(() => {}) // It expires.
  }

  #exchangeInBackground(): void {
    this.#exchange().catch(() => {
      this.#others = 0
      this.#hasPeers = true
    })
  }

  async #exchange(): Promise<void> {
    const now = Date.now()
    const previous = this.#told
    const current = `${this.#replica}:${this.#own()}`
    this.#told = current
    const [members] = await Promise.all([
      this.#redis.zrange(KEY, '0', '-1', 'WITHSCORES'),
      this.#redis.zadd(KEY, now + EXPIRES_MS, current),
      previous !== undefined && previous !== current && this.#redis.zrem(KEY, previous),
      this.#redis.zremrangebyscore(KEY, 0, now)
    ])
    const counts = new Map<string, number>()
    for (let i = 0; i < members.length; i += 2) {
      const [replica = '', count] = (members[i] ?? '').split(':')
      if (replica !== this.#replica && Number(members[i + 1]) > now) counts.set(replica, Number(count) || 0)
    }
    this.#hasPeers = counts.size > 0
    this.#others = [...counts.values()].reduce((sum, count) => sum + count, 0)
  }
}
