import t from 'tap'
import { createDatabase } from '../helpers/database.ts'
import { waitUntil } from '../helpers/raw.ts'
import { ask, externalEngines, startServer, withoutExit } from '../helpers/server.ts'

const KIB = 1024
const MIB = 1024 ** 2
/** Between what the start leaves (2 to 4 MiB) and what it would leave without a limit (17 or 32). */
const SMALL_MIB = 8
/** Enough requests in memory at once to make it grow. */
const LONG_POLLS = 500

/** @returns the size of a part of the service's heap, in bytes */
async function heapSpace(url: string, kind: 'total' | 'used', space: 'new' | 'old'): Promise<number> {
  const metrics = await (await fetch(`${url}/metrics`)).text()
  const line = new RegExp(`^nodejs_heap_space_size_${kind}_bytes\\{space="${space}"\\} (\\d+)$`, 'm')
  return Number(line.exec(metrics)?.[1])
}

t.test('the young generation of the heap is small after the start, and grows under load', async (t) => {
  const server = startServer(t, { ...externalEngines(), POSTGRES_DB: await createDatabase(t) })
  const url = await server.ready
  const youngGeneration = async () => (await heapSpace(url, 'total', 'new')) / MIB
  const idle = await youngGeneration()
  t.ok(idle <= SMALL_MIB, `${idle} MiB after the start`)
  const polls = Array.from({ length: LONG_POLLS }, () => ask(url, '/api/messages?after_id=1000000&wait=25'))
  await waitUntil('it has grown', async () => (await youngGeneration()) > SMALL_MIB)
  server.child.kill('SIGTERM')
  t.ok((await Promise.all(polls)).every(({ status }) => status === 200))
})

// V8 moves objects that survive two collections of the young generation to the old one, which it collects
// rarely. Until then, a dead object there keeps alive whatever it refers to, which then moves there as well.
// So one reference from each request to the next is enough to keep all of them.

const WARM_UP_REQUESTS = 200
const REQUESTS = 600
const AT_ONCE = 20
/** For each request. 0.3 to 1.9 KiB were measured, and 4.3 to 8.4 with such references. */
const MAX_LEFT_BEHIND = 3 * KIB

t.test('requests leave next to nothing behind in the old generation of the heap', async (t) => {
  const server = startServer(
    t,
    {
      ...externalEngines(),
      POSTGRES_DB: await createDatabase(t),
      RATE_LIMIT: 'off',
      SEARCH_LANGUAGES: 'off'
    },
    // Optimised code may not create the references, and when V8 optimises varies from run to run.
    { execArgv: [...withoutExit, '--no-opt', '--max-semi-space-size=4'] }
  )
  const url = await server.ready
  const account = { nickname: 'alice', password: 'correct horse' }
  const { token } = (await ask(url, '/api/register', undefined, account)).body
  const { id } = (await ask(url, '/api/messages', token, { text: 'hello' })).body
  const headers = {
    authorization: `Bearer ${token}`,
    'content-type': 'application/json',
    'user-agent': 'a'.repeat(4 * KIB)
  }

  const requests: [path: string, init: RequestInit, status: number][] = [
    ['/api/me', {}, 200],
    [`/api/messages/${id}/report`, { method: 'POST', body: JSON.stringify({ reason: 'spam' }) }, 204]
  ]
  for (const [path, init, status] of requests) {
    const send = async () => {
      const answer = await fetch(`${url}${path}`, { ...init, headers })
      await answer.text()
      return answer.status
    }
    const sendMany = async (count: number) => {
      for (let sent = 0; sent < count; sent += AT_ONCE) {
        const statuses = await Promise.all(Array.from({ length: AT_ONCE }, send))
        t.strictSame(new Set(statuses), new Set([status]))
      }
    }
    await sendMany(WARM_UP_REQUESTS)
    const before = await heapSpace(url, 'used', 'old')
    await sendMany(REQUESTS)
    const bytes = Math.round(((await heapSpace(url, 'used', 'old')) - before) / REQUESTS)
    t.ok(bytes < MAX_LEFT_BEHIND, `${path}: ${bytes} bytes each`)
  }
})
