import t from 'tap'
import { createDatabase } from '../helpers/database.ts'
import { ask, externalEngines, startServer, withoutExit } from '../helpers/server.ts'

// V8 moves what has survived two collections of the young generation to the old one, which it collects
// rarely. Even if it is not used any more, what it refers to then survives as well, and follows it. So a
// single reference from each request to the next keeps all of them, until they fill half of the heap.

const REQUESTS = 600
const AT_ONCE = 20
const KIB = 1024
const MOST = 3 * KIB // 0.3 to 1.9 were seen, and 4.9 to 8.4 with references from one to the next.

t.test('requests leave next to nothing in the old generation of the heap', async (t) => {
  const server = startServer(
    t,
    {
      ...externalEngines(),
      POSTGRES_DB: await createDatabase(t),
      RATE_LIMIT: 'off',
      SEARCH_LANGUAGES: 'off'
    },
    // Optimised code may do without some of the references, and V8 optimises when it likes to.
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
  const oldGeneration = async () => {
    const metrics = await (await fetch(`${url}/metrics`)).text()
    return Number(/^nodejs_heap_space_size_used_bytes\{space="old"\} (\d+)/m.exec(metrics)?.[1])
  }

  const requests: [path: string, init: RequestInit, status: number][] = [
    ['/api/me', {}, 200],
    [`/api/messages/${id}/report`, { method: 'POST', body: JSON.stringify({ reason: 'spam' }) }, 204]
  ]
  for (const [path, init, status] of requests) {
    const send = async (count: number) => {
      for (let sent = 0; sent < count; sent += AT_ONCE) {
        const answers = await Promise.all(
          Array.from({ length: AT_ONCE }, async () => {
            const answer = await fetch(`${url}${path}`, { ...init, headers })
            await answer.text()
            return answer.status
          })
        )
        t.ok(
          answers.every((answer) => answer === status),
          `${answers}`
        )
      }
    }
    await send(200) // until everything is loaded
    const before = await oldGeneration()
    await send(REQUESTS)
    const bytes = Math.round(((await oldGeneration()) - before) / REQUESTS)
    t.ok(bytes < MOST, `${path}: ${bytes} bytes each`)
  }
})
