import { once } from 'node:events'
import { connect } from 'node:net'
import { createHistogram } from 'node:perf_hooks'
import { say } from '../send.ts'
import { type Figure, median } from './report.ts'
import type { World } from './world.ts'

// Long polls, and a post that they all wait for.

const WAITERS = 500
const TEXT = 'what all of them wait for'
const TIMEOUT_MS = 10_000

/**
 * @returns figures of answers to long polls: how long after the POST, and what one costs, its request
 * included
 */
export async function waiters(
  { withService, tokens, cpu, signal }: World,
  { rounds, seconds }: { rounds: number; seconds: number }
): Promise<Figure[]> {
  return withService('postgres', async ({ url, pid }) => {
    const sockets = Array.from({ length: WAITERS }, () =>
      connect(Number(new URL(url).port), '127.0.0.1').on('error', () => {})
    )
    await Promise.all(sockets.map((socket) => once(socket, 'connect')))
    let newest = ((await (await fetch(`${url}/api/messages?limit=1`)).json()) as [{ id: number }])[0].id
    const found: { p50: number; p99: number; each: number }[] = []
    for (let round = -1; round < rounds; round++) {
      // The first is to warm up.
      const delays = createHistogram()
      const before = cpu(pid).service
      for (const deadline = performance.now() + seconds * 1000; performance.now() < deadline;) {
        signal.throwIfAborted()
        let posted = Infinity
        const answers = sockets.map(async (socket) => {
          socket.write(`GET /api/messages?after_id=${newest}&wait=25 HTTP/1.1\r\nhost: chat\r\n\r\n`)
          const [answer] = (await once(socket, 'data', { signal: AbortSignal.timeout(TIMEOUT_MS) })) as [
            Buffer
          ]
          delays.record(Math.max(1, Math.round((performance.now() - posted) * 1000)))
          if (!answer.includes(TEXT)) throw new Error(`a long poll was answered ${answer}`)
        })
        const all = Promise.all(answers)
        // Told below; should something else fail first, it would end this process, with its engines still
        // there.
        all.catch(() => {})
        // Whoever asked before is waiting once this is answered.
        await fetch(`${url}/api/messages?limit=1`).then((response) => response.text())
        posted = performance.now()
        ;[newest] = await Promise.all([say(url, TEXT, tokens[0]), all])
      }
      if (round >= 0) {
        found.push({
          p50: delays.percentile(50) / 1000,
          p99: delays.percentile(99) / 1000,
          each: ((cpu(pid).service - before) * 1e6) / delays.count
        })
      }
    }
    for (const socket of sockets) socket.destroy()
    const what = `${WAITERS} long polls and a post`
    return [
      { what: `${what}: POST to answer, p50`, value: median(found.map(({ p50 }) => p50)), unit: 'ms' },
      { what: `${what}: POST to answer, p99`, value: median(found.map(({ p99 }) => p99)), unit: 'ms' },
      {
        what: `${what}: CPU of each, request and answer`,
        value: median(found.map(({ each }) => each)),
        unit: 'µs'
      }
    ]
  })
}
