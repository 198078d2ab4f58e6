import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { canRun } from '../../src/embedded/process.ts'
import { startService } from '../helpers/app.ts'
import { waitUntil } from '../helpers/raw.ts'
import { folder } from '../helpers/server.ts'
import { startNginx } from '../proof/nginx.ts'

const POLLERS = 50
const SECONDS = 3

t.test('pages may be cached only if CACHE_PAGES is on', async (t) => {
  const { call } = await startService(t)
  for (const query of ['', '?after_id=0', '?before_id=9']) {
    t.equal((await call('GET', `/api/messages${query}`)).headers.get('cache-control'), 'no-store')
  }
})

t.test('CACHE_PAGES lets pages be cached for a second, but neither waits nor errors', async (t) => {
  const { call, register, post } = await startService(t, { CACHE_PAGES: 'on' })
  const { token } = await register()
  await post(token, 'hello')
  for (const [path, expected] of [
    ['/api/messages', 'public, max-age=1'],
    ['/api/messages?after_id=0', 'public, max-age=1'],
    ['/api/messages?after_id=99999', 'public, max-age=1'],
    ['/api/messages?before_id=99999', 'public, max-age=1'],
    ['/api/messages?after_id=0&wait=1', 'no-store'],
    ['/api/messages?after_id=99999&wait=1', 'no-store'],
    ['/api/messages?limit=none', 'no-store'],
    ['/api/sessions', 'no-store'],
    ['/health/livez', 'no-store']
  ] as const) {
    t.equal((await call('GET', path, { token })).headers.get('cache-control'), expected, path)
  }
})

t.test(
  'behind a proxy that caches, many pollers cost about one request a second, and none misses a message',
  { skip: !['nginx', '/usr/sbin/nginx'].some((name) => canRun(name, '-v')) && 'there is no nginx here' },
  async (t) => {
    const { url, call, register, post } = await startService(t, { CACHE_PAGES: 'on' })
    const dir = folder(t)
    mkdirSync(join(dir, 'pages'))
    const nginx = await startNginx(dir, [url], {
      upstream: (hosts) => hosts.map((host) => `server ${host};`).join(' '),
      http: `proxy_cache_path ${dir}/pages keys_zone=pages:1m inactive=5s use_temp_path=off;`,
      location: `proxy_cache pages; proxy_cache_lock on; proxy_cache_use_stale updating;
        proxy_cache_bypass $arg_wait; proxy_no_cache $arg_wait;`
    })
    t.teardown(() => nginx.stop())
    const { token } = await register()
    const first = await post(token, 'first')

    const answered = async () => {
      const { body } = await call('GET', '/metrics')
      const line = /_count\{method="GET",route="\/api\/messages",status="200"\} (\d+)/
      return Number(line.exec(body)?.[1] ?? 0)
    }
    const before = await answered()
    const since = performance.now()
    let polls = 0
    await Promise.all(
      Array.from({ length: POLLERS }, async () => {
        while (performance.now() - since < SECONDS * 1000) {
          const response = await fetch(`${nginx.url}/api/messages?after_id=${first.id}`)
          if ((await response.text()) === '[]') polls++
        }
      })
    )
    const seconds = (performance.now() - since) / 1000
    const requests = (await answered()) - before
    t.ok(polls > requests * 5, `${polls} polls`)
    t.ok(requests <= seconds + 2, `${requests} requests in ${seconds.toFixed(1)} s`)

    const ids: number[] = []
    const seen: number[] = []
    const reader = waitUntil(
      'the reader has seen all',
      async () => {
        const response = await fetch(`${nginx.url}/api/messages?after_id=${seen.at(-1) ?? first.id}`)
        for (const { id } of (await response.json()) as { id: number }[]) seen.push(id)
        return ids.length === 10 && seen.length >= 10
      },
      30_000
    )
    for (let i = 0; i < 10; i++) ids.push((await post(token, `message ${i}`)).id)
    await reader
    t.strictSame(seen, ids)
  }
)
