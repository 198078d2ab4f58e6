import { setMaxListeners } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Blackout, Finding, Silence } from './checker.ts'

// Above what the service allows itself, so that a request that was given up here is not still under way there
// when it is sent again.
const TIMEOUT_MS = 15_000

/** Seeded chance: the same seed and name give the same numbers, whatever others draw meanwhile. */
export class Random {
  #state = 0
  constructor(seed: number, name: string) {
    this.#state = [...name].reduce(
      (hash, letter) => Math.imul(hash ^ letter.charCodeAt(0), 0x01000193),
      seed ^ 0x811c9dc5
    )
  }

  /** @returns from 0 to 1 (mulberry32) */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0
    let z = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1)
    z ^= z + Math.imul(z ^ (z >>> 7), z | 61)
    return ((z ^ (z >>> 14)) >>> 0) / 2 ** 32
  }

  between = (low: number, high: number) => low + Math.floor(this.next() * (high - low + 1))
  chance = (probability: number) => this.next() < probability
  pick = <Item>(items: readonly Item[]): Item => items[Math.floor(this.next() * items.length)]!
  shuffled = <Item>(items: readonly Item[]): Item[] =>
    items
      .map((item) => [this.next(), item] as const)
      .sort(([a], [b]) => a - b)
      .map(([, item]) => item)
}

export interface Request {
  method?: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  path: string
  token?: string
  key?: string
  body?: object
  /** When its sender hangs up, though the answer is on its way. */
  cutAfterMs?: number | undefined
  /** Whether its sender may be logged out. */
  mayBeLoggedOut?: boolean
}

export interface Limit {
  signal: AbortSignal
  release: () => void
}
export interface Message {
  id: number
  text: string
}
export interface Answer {
  status: number
  headers: Headers
  body: unknown
}

/** What all who take part in a run share. */
export class World {
  /**
   * The replicas, or one proxy in front of them: then who posts may read at another replica, which is
   * promised nothing so soon.
   */
  urls: string[] = []
  isBehindProxy = false
  /** Whether new work begins, and whether readers and writers hang up at random. */
  writing = true
  cutting = true
  /** Ends everybody. */
  ended = new AbortController()
  findings: Finding[] = []
  silences: Silence[] = []
  blackouts: Blackout[] = []
  /** Odd while triggers of the event log are not in force. */
  blackoutChanges = 0
  tally = new Map<string, number>()
  seed: number
  constructor(seed: number) {
    this.seed = seed
    setMaxListeners(0, this.ended.signal)
    // Loops that run while `writing` would spin otherwise, because `sleep` and `ask` return at once then.
    this.ended.signal.addEventListener('abort', () => {
      this.writing = false
    })
  }

  random = (name: string) => new Random(this.seed, name)
  count = (what: string, times = 1) => this.tally.set(what, (this.tally.get(what) ?? 0) + times)
  find = (kind: string, what: string) => {
    this.findings.push({ kind, what })
  }
  sleep = (ms: number) => sleep(ms, undefined, { signal: this.ended.signal }).catch(() => {})

  /** What aborts after that time, at the end of the run, and when it is released. */
  limit(ms: number): Limit {
    const controller = new AbortController()
    const release = () => {
      clearTimeout(timer)
      this.ended.signal.removeEventListener('abort', release)
      controller.abort()
    }
    const timer = setTimeout(release, ms)
    this.ended.signal.addEventListener('abort', release)
    if (this.ended.signal.aborted) release()
    return { signal: controller.signal, release }
  }

  /**
   * @returns the answer; nothing when there was none, or one that says to try again: 429, 503, and 408 of a
   * replica that was stopped while the request arrived (RFC 9110, 15.5.9)
   */
  async ask(
    url: string,
    { method = 'GET', path, token, key, body, cutAfterMs, mayBeLoggedOut = false }: Request
  ): Promise<Answer | undefined> {
    const what = `${method} ${path}`
    const limit = this.limit(cutAfterMs ?? TIMEOUT_MS)
    try {
      const response = await fetch(`${url}${path}`, {
        method,
        signal: limit.signal,
        headers: {
          ...(body && { 'content-type': 'application/json' }),
          ...(token !== undefined && { authorization: `Bearer ${token}` }),
          ...(key !== undefined && { 'idempotency-key': key })
        },
        ...(body && { body: JSON.stringify(body) })
      })
      const { status, headers } = response
      const answer = await response.text()
      if (status === 401 && !mayBeLoggedOut) this.find('logged out', `${what}: ${answer}`)
      if (status === 408 || status === 429 || status === 503) {
        this.count(`answers ${status}`)
        return undefined
      }
      if (status >= 500) this.find('error', `${what}: ${status} ${answer}`)
      return status < 500 ? { status, headers, body: answer && JSON.parse(answer) } : undefined
    } catch (error) {
      if (error instanceof SyntaxError) this.find('error', `${what}: ${error.message}`)
      if (!this.ended.signal.aborted) {
        this.count(cutAfterMs === undefined ? 'requests without an answer' : 'requests cut')
      }
      return undefined
    } finally {
      limit.release()
    }
  }
}
