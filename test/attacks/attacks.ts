import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { Redis } from 'ioredis'
import t, { type Test } from 'tap'
import { freePort } from '../../src/embedded/process.ts'
import { connect, createDatabase } from '../helpers/database.ts'
import { waitUntil } from '../helpers/raw.ts'
import { externalEngines, folder, startServer } from '../helpers/server.ts'
import { residentKib } from '../load/bench/processes.ts'
import { post } from '../load/scenarios.ts'
import { send } from '../load/send.ts'
import { type Sessions, startSessions } from '../proof/cluster.ts'
import { byDefault, startNginx } from '../proof/nginx.ts'
import { attackersConnections, peakMib } from './held.ts'
import { type Measured, Others } from './others.ts'
import type { Account, Row, Stage } from './row.ts'
import { rows } from './table.ts'

// The attack table: while one attacker does what a row says, the service is held to the same bounds in every
// row.

const MAX_LIVEZ_MS = 1000
const MAX_P99_MS = 1000
const MAX_LOGIN_MS = 3000
const MAX_PEAK_MIB = 400
const RELEASE_MS = 30_000
const MAX_GROWTH = 1.2
// The heap that Node gives itself in the container of the chart, where 512 MiB are the limit. On a large
// machine it would put off collecting garbage until there is much more of it, which says nothing about what
// is held.
const HEAP = '--max-old-space-size=256'
// Ordinary use before the attack, as brisk as these people can make it, so that the memory is that of a
// service in use.
const WARM_UP_MS = 3000
const WARM_UP_PEOPLE = 50
// 60 registrations in an hour are allowed.
const ACCOUNTS_PER_ADDRESS = 50

const GAUGES = [
  'chat_event_streams',
  'chat_long_polls',
  'chat_write_queue',
  'chat_postgres_pool_waiting',
  'chat_password_queue{state="running"}',
  'chat_password_queue{state="waiting"}'
]
const ANSWERED = 'http_request_duration_seconds_count'

/** The attack table of SECURITY.md, without its head. */
function readTable(): string[][] {
  const lines = readFileSync(new URL('../../SECURITY.md', import.meta.url), 'utf8').split('\n')
  const head = lines.findIndex((line) => line.startsWith('| attack | what is sent |'))
  if (head < 0) return []
  const cells = (line: string) =>
    line
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim())
  return lines.slice(head + 2, lines.indexOf('', head)).map(cells)
}

/** Starts the attacker's process, which gives way to the one that measures. */
async function startAttacker(t: Test, name: string) {
  const program = fileURLToPath(new URL('attack.ts', import.meta.url))
  const command = [
    'nice',
    '-n',
    '10',
    process.execPath,
    '--import',
    import.meta.resolve('tsx'),
    program,
    name
  ]
  // Through `env`, because tap adds its instruments to every Node process that a test starts.
  const child = spawn('/usr/bin/env', ['-u', 'NODE_OPTIONS', ...command], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc']
  })
  const exited = once(child, 'exit')
  t.teardown(async () => {
    child.kill('SIGKILL')
    await exited
  })
  const failed = exited.then(([code]) => {
    throw new Error(`the attacker ended with ${code}`)
  })
  failed.catch(() => {})
  await Promise.race([once(child, 'message'), failed])
  return {
    attack: async (url: string, given: unknown): Promise<unknown> => {
      child.send({ url, given: given ?? null })
      const [{ found }] = (await Promise.race([once(child, 'message'), failed])) as [{ found: unknown }]
      return found
    },
    leave: async () => {
      child.send('leave')
      await exited
    }
  }
}

/** Adds up the metrics of all replicas. */
async function readMetrics(origins: string[]): Promise<Map<string, number>> {
  const sums = new Map<string, number>()
  for (const origin of origins) {
    const { body } = await send(origin, { path: '/metrics' }, { agent: false })
    for (const [, name = '', value] of body.matchAll(/^([a-z_]+(?:\{.*\})?) (\S+)$/gm)) {
      sums.set(name, (sums.get(name) ?? 0) + Number(value))
    }
  }
  return sums
}

interface Running extends Stage {
  /** The memory of each replica in MiB: what is resident now, and the most that ever was. */
  residentMib: () => number[]
  peakMib: () => number[]
  /** Ends the service and starts it again where it was. */
  restart: () => Promise<void>
}

/** Starts the service, and what a row needs beside it. */
async function setStage(t: Test, redis: Sessions, { env, isProxied = false }: Row): Promise<Running> {
  await redis.flush()
  const database = await createDatabase(t)
  const ports = await Promise.all(Array.from({ length: isProxied ? 2 : 1 }, freePort))
  const origins = ports.map((port) => `http://127.0.0.1:${port}`)
  const engines = { ...externalEngines(), ...redis.env, POSTGRES_DB: database }
  const start = () =>
    Promise.all(
      ports.map(async (port) => {
        const server = startServer(t, { ...engines, HTTP_PORT: `${port}`, ...env }, { execArgv: [HEAP] })
        await server.ready
        return server
      })
    )
  let servers = await start()
  const pids = () => servers.map(({ child }) => child.pid!)
  const proxy = isProxied ? await startNginx(folder(t), origins, byDefault) : undefined
  if (proxy) t.teardown(proxy.stop)
  const url = proxy?.url ?? origins[0]!

  const sessions = new Redis({ host: redis.env['REDIS_HOST']!, port: Number(redis.env['REDIS_PORT']) })
  t.teardown(() => sessions.disconnect())
  const sql = await connect(t, database)
  let registered = 0
  const registerOne = async (): Promise<Account> => {
    const n = ++registered
    const account = { nickname: `attacker ${n}`, password: `secret number ${n}` }
    const localAddress = `127.0.1.${1 + Math.floor(n / ACCOUNTS_PER_ADDRESS)}`
    const { status, body } = await send(url, post('/api/register', account), { agent: false, localAddress })
    if (status !== 201) throw new Error(`a registration was answered ${status} ${body}`)
    return { ...account, ...(JSON.parse(body) as { userId: number; token: string }) }
  }
  return {
    t,
    url,
    origins,
    database,
    sql,
    redis: sessions,
    register: (count) => Promise.all(Array.from({ length: count }, registerOne)),
    insert: async (count, text) => {
      const { userId } = await registerOne()
      const ids: number[] = []
      // By several statements, because each holds the lock of the log until it has committed.
      const batch = Math.min(10_000, Math.ceil(5_000_000 / text.length))
      while (ids.length < count) {
        const { rows } = await sql.query<{ id: number }>(
          `insert into chat_message (user_id, text, created_at)
          select $1, $3, now() from generate_series(1, $2::int) returning id`,
          [userId, Math.min(batch, count - ids.length), text]
        )
        ids.push(...rows.map(({ id }) => id))
      }
      return ids
    },
    metrics: () => readMetrics(origins),
    errors: () => servers.flatMap(({ errors }) => errors),
    residentMib: () => pids().map((pid) => residentKib(pid) / 1024),
    peakMib: () => pids().map(peakMib),
    restart: async () => {
      for (const { child } of servers) child.kill('SIGTERM')
      await Promise.all(servers.map(({ exited }) => exited))
      servers = await start()
    }
  }
}

/**
 * Waits until what the attack held is released.
 * @param memoryBefore the most that was resident in ordinary use, because how much that is at a given moment
 * depends on when garbage was last collected
 * @returns what is not, after as long as that may take
 */
async function waitForRelease(
  stage: Running,
  before: Map<string, number>,
  memoryBefore: number[]
): Promise<string[]> {
  const ports = stage.origins.map((origin) => Number(new URL(origin).port))
  const deadline = performance.now() + RELEASE_MS
  for (;;) {
    const now = await stage.metrics().catch(() => new Map<string, number>())
    const gauges = GAUGES.filter((name) => (now.get(name) ?? Infinity) > (before.get(name) ?? 0))
    const connections = ports.reduce((sum, port) => sum + attackersConnections(port), 0)
    const resident = stage.residentMib().filter((mib, n) => mib > memoryBefore[n]! * MAX_GROWTH)
    const held = [
      ...gauges.map((name) => `${name} ${now.get(name)}`),
      ...(connections > 0 ? [`${connections} connections`] : []),
      ...resident.map((mib) => `${Math.round(mib)} MiB resident`)
    ]
    if (held.length === 0 || performance.now() > deadline) return held
    await sleep(100)
  }
}

/** Holds what others got to the bounds. @returns it in words, for the report */
function judge(t: Test, when: string, { livez, pages, posts, logins, failures }: Measured): string {
  const held = [
    ['livez', livez.percentile(1), MAX_LIVEZ_MS],
    ['the p99 of pages', pages.percentile(0.99), MAX_P99_MS],
    ['the p99 of posts', posts.percentile(0.99), MAX_P99_MS],
    ['the slowest login', logins.percentile(1), MAX_LOGIN_MS]
  ] as const
  const figures = held.map(([what, ms, most]) => {
    const figure = `${what} ${Math.round(ms)} ms`
    t.ok(ms <= most, `${when}, ${figure} is at most ${most} ms`)
    return figure
  })
  t.strictSame(Object.fromEntries(failures), {}, `${when}, nothing fails for anybody else`)
  return `${when}: ${[...figures, ...[...failures].map(([failure, times]) => `${times} × ${failure}`)].join(', ')}`
}

async function hold(t: Test, redis: Sessions, row: Row): Promise<void> {
  const [stage, attacker] = await Promise.all([setStage(t, redis, row), startAttacker(t, row.name)])
  const given = await row.prepare?.(stage)
  const others = await Others.register(stage.url, row.page, row.mayRefuse)
  t.teardown(() => others.leave())
  await others.come()
  await others.hurry(WARM_UP_PEOPLE, WARM_UP_MS)
  await others.measured()
  const metricsBefore = await stage.metrics()
  const memoryBefore = stage.peakMib()
  if (row.isFresh) {
    await others.leave()
    await stage.restart()
    await others.come()
  }

  const found = await attacker.attack(stage.url, given)
  const report = [judge(t, 'during the attack', await others.measured())]
  await row.expect?.(stage, found, given)
  const attacked = performance.now()
  if (!row.holds) await attacker.leave()

  const held = await waitForRelease(stage, metricsBefore, memoryBefore)
  const seconds = ((performance.now() - attacked) / 1000).toFixed(1)
  t.strictSame(held, [], 'all that the attack held is released within 30 s')
  report.push(judge(t, 'after it', await others.measured()))
  const peak = Math.max(...stage.peakMib())
  t.ok(peak < MAX_PEAK_MIB, `resident memory stays below ${MAX_PEAK_MIB} MiB: ${Math.round(peak)}`)
  const answered = [...(await stage.metrics()).keys()].filter((name) => name.startsWith(ANSWERED))
  t.strictSame(
    answered.filter((name) => name.includes('status="500"')),
    [],
    'nothing is an internal error'
  )
  t.comment(
    [
      ...report,
      `memory: ${Math.round(Math.max(...memoryBefore))} MiB before, at most ${Math.round(peak)}`,
      held.length > 0 ? `not released: ${held.join(', ')}` : `released after ${seconds} s`,
      `the attacker found ${JSON.stringify(found)}`
    ].join('; ')
  )
  await waitUntil('every message has come', () => others.untold.length === 0, RELEASE_MS).catch(() => {})
  t.strictSame(others.untold, [], 'every message has come by the open event stream')
}

t.jobs = 1
const dataDir = folder(t)
const redis = await startSessions(dataDir)
t.teardown(() => redis.down('SIGQUIT'))

t.test('SECURITY.md lists exactly the attacks of this table', async (t) => {
  t.strictSame(
    readTable(),
    rows.map(({ name, sent, stops }) => [name, sent, stops])
  )
})

const chosen = process.argv[2] ?? '' // A part of a name, for whoever works on one row.
for (const row of rows.filter(({ name }) => name.includes(chosen))) {
  t.test(row.name, { buffered: true, timeout: 180_000 }, (t) => hold(t, redis, row))
}
