import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { Agent, get, type IncomingMessage } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { readEvents } from '../helpers/events.ts'
import { post, type Request } from '../load/scenarios.ts'
import { send } from '../load/send.ts'

/** How long requests took, in milliseconds. */
export class Times {
  #all: number[] = []

  add(ms: number): void {
    this.#all.push(ms)
  }

  /** The smallest time within which that share of them were answered. */
  percentile(share: number): number {
    const sorted = this.#all.toSorted((a, b) => a - b)
    return sorted[Math.ceil(sorted.length * share) - 1] ?? 0
  }
}

/** What everybody else got from the service for a while. */
export interface Measured {
  livez: Times
  pages: Times
  posts: Times
  logins: Times
  /** What went wrong, and how often. */
  failures: Map<string, number>
}

const nothing = (): Measured => ({
  livez: new Times(),
  pages: new Times(),
  posts: new Times(),
  logins: new Times(),
  failures: new Map()
})

const randomHex = () => randomBytes(8).toString('hex')

const PEOPLE = 4
// A second, of all of them together.
const PAGES = 20
const POSTS = 8
const LOGINS = 1
const LIVENESS_PROBES = 5
const READINESS_PROBES = 1

interface Person {
  nickname: string
  password: string
  token: string
}

/**
 * Everybody else: people who read, write, log in and follow the room, and whoever probes the health of the
 * service.
 */
export class Others {
  #url: string
  #people: Person[]
  #page: string
  #mayRefuse: boolean
  #agent = new Agent()
  #measured = nothing()
  #calls = new Set<Promise<void>>()
  #end = new AbortController()
  #work: Promise<unknown> = Promise.resolve()
  #posted: number[] = []
  #seen = new Set<number>()

  private constructor(url: string, people: Person[], page: string, mayRefuse: boolean) {
    this.#url = url
    this.#people = people
    this.#page = page
    this.#mayRefuse = mayRefuse
  }

  /**
   * Registers them.
   * @param page what they read
   * @param mayRefuse whether 503 is an answer that they expect; then each request has a connection of its own
   */
  static async register(url: string, page = '/api/messages', mayRefuse = false): Promise<Others> {
    const people = await Promise.all(
      Array.from({ length: PEOPLE }, async () => {
        const account = { nickname: `other ${randomHex()}`, password: randomHex() }
        const { body } = await send(url, post('/api/register', account))
        return { ...account, token: (JSON.parse(body) as { token: string }).token }
      })
    )
    return new Others(url, people, page, mayRefuse)
  }

  /**
   * From now on they use the service at a steady pace, until they leave. Resolves once they follow the room,
   * because a stream is not told what was posted before it was opened.
   */
  async come(): Promise<void> {
    this.#end = new AbortController()
    this.#agent = new Agent({ keepAlive: !this.#mayRefuse })
    this.#posted = []
    const stream = await fetch(`${this.#url}/api/events`, { signal: this.#end.signal })
    const person = (n: number) => this.#people[n % PEOPLE]!
    this.#work = Promise.all([
      this.#follow(stream),
      this.#steadily(LIVENESS_PROBES, () => this.#ask('livez', { path: '/health/livez' }, 200)),
      this.#steadily(READINESS_PROBES, () => this.#ask('readyz', { path: '/health/readyz' }, 200)),
      this.#steadily(PAGES, () => this.#ask('pages', { path: this.#page }, 200)),
      this.#steadily(LOGINS, (n) => this.#ask('logins', post('/api/login', person(n)), 200)),
      this.#steadily(POSTS, async (n) => {
        const message = post('/api/messages', { text: `message ${n}` }, person(n).token)
        const body = await this.#ask('posts', message, 201)
        if (body !== undefined) this.#posted.push((JSON.parse(body) as { id: number }).id)
      })
    ])
  }

  /**
   * For a while the room is as busy as so many people can make it who wait for each answer. Half of what they
   * do is on connections that are kept alive; for the other half somebody comes, follows the room for a
   * moment, and goes.
   */
  async hurry(people: number, ms: number): Promise<void> {
    const until = performance.now() + ms
    await Promise.all(
      Array.from({ length: people }, async () => {
        for (let n = 0; performance.now() < until; n++) {
          if (n % 2 === 0) await this.#glance()
          else await send(this.#url, { path: this.#page }, { agent: this.#agent })
        }
      })
    )
  }

  /** Opens an event stream, and closes it when it has begun. */
  async #glance(): Promise<void> {
    const stream = get(`${this.#url}/api/events?since=1`, { agent: false })
    const [response] = (await once(stream, 'response')) as [IncomingMessage]
    await once(
      response.on('error', () => {}),
      'data'
    )
    stream.destroy()
  }

  async #steadily(perSecond: number, call: (n: number) => Promise<unknown>): Promise<void> {
    const start = performance.now()
    for (let n = 0; !this.#end.signal.aborted; n++) {
      const called: Promise<void> = call(n).then(() => {
        this.#calls.delete(called)
      })
      this.#calls.add(called)
      const next = start + ((n + 1) * 1000) / perSecond
      await sleep(next - performance.now(), undefined, { signal: this.#end.signal }).catch(() => {})
    }
  }

  /** @returns the body of an answer with that status */
  async #ask(
    what: 'livez' | 'readyz' | 'pages' | 'posts' | 'logins',
    request: Request,
    status: number
  ): Promise<string | undefined> {
    const measured = this.#measured
    const isProbe = what === 'livez' || what === 'readyz'
    const isExpected = (answer: number) =>
      answer === status || (answer === 503 && this.#mayRefuse && !isProbe)
    const fail = (why: string) => {
      const failure = `${what}: ${why}`
      measured.failures.set(failure, (measured.failures.get(failure) ?? 0) + 1)
    }
    const sent = performance.now()
    const answer = await send(this.#url, request, { agent: isProbe ? false : this.#agent }).catch(
      (error: NodeJS.ErrnoException) => {
        fail(error.code ?? error.message)
        return undefined
      }
    )
    if (what !== 'readyz') measured[what].add(performance.now() - sent)
    if (answer === undefined) return undefined
    if (!isExpected(answer.status)) fail(`${answer.status} ${/"code":"(\w+)"/.exec(answer.body)?.[1]}`)
    return answer.status === status ? answer.body : undefined
  }

  async #follow(stream: Response): Promise<void> {
    try {
      for await (const { id, type } of readEvents(stream)) {
        this.#seen.add(id)
        if (type === 'reset') this.#measured.failures.set('the event stream was reset', 1)
      }
    } catch {} // It was broken off, by them or by the service.
    if (!this.#end.signal.aborted) this.#measured.failures.set('the event stream ended', 1)
  }

  /** Resolves to what they got since the last time that this was asked, once all of it has been answered. */
  async measured(): Promise<Measured> {
    const measured = this.#measured
    this.#measured = nothing()
    await Promise.all(this.#calls)
    return measured
  }

  /** Which of their messages have not come by the open event stream, in the order of posting. */
  get untold(): string[] {
    const all = this.#posted.entries()
    return [...all].filter(([, id]) => !this.#seen.has(id)).map(([n]) => `${n + 1} of ${this.#posted.length}`)
  }

  async leave(): Promise<void> {
    this.#end.abort()
    await this.#work
    await Promise.all(this.#calls)
    this.#agent.destroy()
  }
}
