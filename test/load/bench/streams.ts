import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { createHistogram, type RecordableHistogram } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { fireWell } from '../fire.ts'
import { atRate } from '../pace.ts'
import { postMessage } from '../scenarios.ts'
import { say } from '../send.ts'
import type { Service } from '../service.ts'
import { residentKib } from './processes.ts'
import { type Figure, median } from './report.ts'
import type { World } from './world.ts'

// Event streams: what one costs while nothing happens, how many deliveries a second of CPU makes, and how
// late they are.

const DELIVERIES_PER_SECOND = 20_000
const BUSY_POSTS_PER_SECOND = 20
const CONNECTIONS = 64
const SAMPLED = 20 // streams whose events are read, and not only counted
const DIAL = 100 // streams that connect at once
const TIMEOUT_MS = 10_000
// The only one in what a stream gets is that of `message_created`: so a search for one byte counts events,
// however they are cut.
const UNDERSCORE = '_'.charCodeAt(0)

function count(bytes: Buffer): number {
  let found = 0
  for (let at = bytes.indexOf(UNDERSCORE); at >= 0; at = bytes.indexOf(UNDERSCORE, at + 1)) found++
  return found
}

/** Open streams. `delivered` counts the events of all of them. */
class Streams {
  delivered = 0
  delays: RecordableHistogram = createHistogram()
  #sockets: Socket[] = []
  #lost = 0

  async open(url: string, total: number): Promise<void> {
    while (this.#sockets.length < total) {
      const before = this.#sockets.length
      await Promise.all(
        Array.from({ length: Math.min(DIAL, total - before) }, (_, i) =>
          this.#dial(url, (before + i) % (total / SAMPLED) === 0)
        )
      )
    }
  }

  async #dial(url: string, isSampled: boolean): Promise<void> {
    const socket = connect(Number(new URL(url).port), '127.0.0.1')
    this.#sockets.push(socket)
    socket.on('error', () => {}).on('close', () => this.#lost++)
    socket.write('GET /api/events HTTP/1.1\r\nhost: chat\r\n\r\n')
    const [head] = (await once(socket, 'data', { signal: AbortSignal.timeout(TIMEOUT_MS) })) as [Buffer]
    if (!head.includes(' 200 ')) throw new Error(`a stream was refused: ${head}`)
    socket.on('data', (bytes) => {
      this.delivered += count(bytes)
      if (isSampled) {
        for (const [, sent] of `${bytes}`.matchAll(/"sent ([\d.]+)"/g)) {
          this.delays.record(Math.max(1, Math.round((performance.now() - Number(sent)) * 1000)))
        }
      }
    })
  }

  /** Resolves when the streams have had so many events in all. */
  async got(expected: number): Promise<void> {
    for (
      const deadline = Date.now() + TIMEOUT_MS;
      this.delivered < expected && this.#lost === 0 && Date.now() < deadline;
    ) {
      await sleep(5)
    }
    if (this.#lost > 0 || this.delivered < expected) {
      throw new Error(`${this.#lost} streams were lost, and ${expected - this.delivered} events`)
    }
  }

  async close(total: number): Promise<void> {
    await Promise.all(
      this.#sockets.splice(total).map((socket) => once(socket.removeAllListeners('close').destroy(), 'close'))
    )
  }
}

/** What posts for some seconds, and returns when no more follow. */
type Posting = (world: World, url: string, streams: number, seconds: number) => Promise<void>

const steadily =
  (postsPerSecond: number): Posting =>
  ({ tokens, signal }, url, _total, seconds) =>
    atRate(postsPerSecond, seconds, signal, async () => {
      await say(url, `sent ${performance.now()}`, tokens[0])
    })

/** As fast as some connections can. */
const fast: Posting = async ({ tokens, signal }, url, _total, duration) => {
  await fireWell(
    { url, connections: CONNECTIONS, duration, requests: [postMessage(tokens[0] ?? '')] },
    signal
  )
  await say(url, 'after those whose answers nobody waited for', tokens[0])
}

const cursor = async (url: string) =>
  Number((await fetch(`${url}/api/messages?limit=1`)).headers.get('x-event-cursor'))

interface Given {
  rounds: number
  seconds: number
}

/**
 * @returns medians of some rounds: deliveries for each second of the service's CPU, p50 and p99 of the delay
 * in milliseconds, events/s
 */
async function deliver(
  world: World,
  { url, pid }: Service,
  streams: Streams,
  total: number,
  posting: Posting,
  { rounds, seconds }: Given
) {
  const found: { perCpu: number; p50: number; p99: number; events: number }[] = []
  for (let round = -1; round < rounds; round++) {
    // The first is to warm up.
    streams.delays = createHistogram()
    const [delivered, from, cpu] = [streams.delivered, await cursor(url), world.cpu(pid).service]
    await posting(world, url, total, round < 0 ? 1 : seconds)
    const events = (await cursor(url)) - from
    await streams.got(delivered + events * total)
    const perCpu = (streams.delivered - delivered) / (world.cpu(pid).service - cpu)
    if (round >= 0) {
      found.push({
        perCpu,
        p50: streams.delays.percentile(50) / 1000,
        p99: streams.delays.percentile(99) / 1000,
        events: events / seconds
      })
    }
  }
  const middle = (of: 'perCpu' | 'p50' | 'p99' | 'events') => median(found.map((round) => round[of]))
  return { perCpu: middle('perCpu'), p50: middle('p50'), p99: middle('p99'), events: middle('events') }
}

/** @returns what the service holds once that has stayed the same for a moment */
async function settledKib(pid: number): Promise<number> {
  let [before, now] = [0, residentKib(pid)]
  for (const deadline = Date.now() + TIMEOUT_MS; Math.abs(now - before) > 256 && Date.now() < deadline;) {
    await sleep(1000)
    ;[before, now] = [now, residentKib(pid)]
  }
  return now
}

export async function streams(world: World, given: Given): Promise<Figure[]> {
  return world.withService('postgres', async (service) => {
    const streams = new Streams()
    const atRest = await settledKib(service.pid)
    await streams.open(service.url, 1000)
    const with1000 = await settledKib(service.pid)
    await streams.open(service.url, 5000)
    const with5000 = await settledKib(service.pid)
    const many = await deliver(world, service, streams, 5000, steadily(DELIVERIES_PER_SECOND / 5000), given)
    const busy = await deliver(world, service, streams, 5000, steadily(BUSY_POSTS_PER_SECOND), given)
    await streams.close(1000)
    const few = await deliver(world, service, streams, 1000, steadily(DELIVERIES_PER_SECOND / 1000), given)
    const loaded = await deliver(world, service, streams, 1000, fast, given)
    await streams.close(0)
    return [
      {
        what: 'memory of an idle stream, the first 1,000',
        value: (with1000 - atRest) / 1000,
        unit: 'KiB',
        atMost: 25
      },
      {
        what: 'memory of an idle stream, 1,000 to 5,000',
        value: (with5000 - with1000) / 4000,
        unit: 'KiB',
        atMost: 25
      },
      { what: '1,000 streams, 20 posts/s: deliveries per CPU second', value: few.perCpu, atLeast: 100_000 },
      { what: '1,000 streams, 20 posts/s: POST to event, p50', value: few.p50, unit: 'ms' },
      { what: '1,000 streams, 20 posts/s: POST to event, p99', value: few.p99, unit: 'ms', atMost: 100 },
      { what: '5,000 streams, 4 posts/s: deliveries per CPU second', value: many.perCpu },
      { what: '5,000 streams, 4 posts/s: POST to event, p50', value: many.p50, unit: 'ms' },
      { what: '5,000 streams, 4 posts/s: POST to event, p99', value: many.p99, unit: 'ms', atMost: 100 },
      { what: '5,000 streams, 20 posts/s: deliveries per CPU second', value: busy.perCpu },
      { what: '5,000 streams, 20 posts/s: POST to event, p50', value: busy.p50, unit: 'ms' },
      { what: '5,000 streams, 20 posts/s: POST to event, p99', value: busy.p99, unit: 'ms', atMost: 100 },
      {
        what: `1,000 streams, ${CONNECTIONS} connections that post: deliveries per CPU second`,
        value: loaded.perCpu,
        atLeast: 170_000
      },
      { what: `1,000 streams, ${CONNECTIONS} connections that post: events/s`, value: loaded.events }
    ]
  })
}
