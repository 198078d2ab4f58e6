import t from 'tap'
import { createDatabase } from '../helpers/database.ts'
import { waitUntil } from '../helpers/raw.ts'
import { ask, externalEngines, startServer } from '../helpers/server.ts'

const MIB = 1024 ** 2
/** Between what the start leaves (2 to 4 MiB) and what it would leave without a limit (17 or 32). */
const SMALL_MIB = 8
/** Enough requests in memory at once to make it grow. */
const LONG_POLLS = 500

/** @returns the size of the young generation of the service's heap, in MiB */
async function youngGeneration(url: string): Promise<number> {
  const metrics = await (await fetch(`${url}/metrics`)).text()
  const [, bytes] = /^nodejs_heap_space_size_total_bytes\{space="new"\} (\d+)$/m.exec(metrics) ?? []
  return Number(bytes) / MIB
}

t.test('the young generation of the heap is small after the start, and grows under load', async (t) => {
  const server = startServer(t, { ...externalEngines(), POSTGRES_DB: await createDatabase(t) })
  const url = await server.ready
  const idle = await youngGeneration(url)
  t.ok(idle <= SMALL_MIB, `${idle} MiB after the start`)
  const polls = Array.from({ length: LONG_POLLS }, () => ask(url, '/api/messages?after_id=1000000&wait=25'))
  await waitUntil('it has grown', async () => (await youngGeneration(url)) > SMALL_MIB)
  server.child.kill('SIGTERM')
  t.ok((await Promise.all(polls)).every(({ status }) => status === 200))
})
