import { randomInt } from 'node:crypto'
import { cpus } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { runCommand, whole } from '../load/command.ts'
import { withDataDir } from '../load/service.ts'
import type { Poller, Stream, Written } from './checker.ts'
import { type Movable, startMovableDatabase, startMovableSessions } from './cluster.ts'
import { judge, register, report } from './evidence.ts'
import { faults, type Parts } from './faults.ts'
import { startLossyRedis } from './lossy-redis.ts'
import { appoint, createMember, member, moderator } from './moderation.ts'
import { plants } from './plants.ts'
import { prepare, program } from './programs.ts'
import { poller, stream } from './readers.ts'
import { allReady, type Replica, startReplicas } from './replicas.ts'
import { World } from './world.ts'
import { author } from './writers.ts'

// `npm run proof`: that nothing is lost, nothing comes twice, everybody sees one order and moderators are
// obeyed, while everything fails that can. Three replicas of the built service on engines of their own.

const REPLICAS = 3
const AUTHORS = 12
const CARELESS_AUTHORS = 2
const PROGRAMS = 3
/** Users whom a moderator silences. */
const MEMBERS = 3
const POLLERS = 3 // and as many who wait
const STREAMS = 4
/** How long replicas may take to be ready again, and writers to finish what they began. */
const TIMEOUT_MS = 60_000
/** How much longer than its seconds a run may take, with its start and its end. */
const OVERTIME_MS = 240_000

const USAGE = `npm run proof -- [--seconds 60] [--seed 1] [--plant ${Object.keys(plants).join(' | ')} …]`

interface Arguments {
  seconds: number
  seed: number
  plants: string[]
}

function readArguments(): Arguments {
  const {
    values: { seconds, seed, plant: planted = [] }
  } = parseArgs({
    options: {
      seconds: { type: 'string', default: '60' },
      seed: { type: 'string', default: `${randomInt(1, 1_000_000)}` },
      plant: { type: 'string', multiple: true }
    }
  })
  const unknown = planted.find((name) => !Object.hasOwn(plants, name))
  if (unknown !== undefined) throw new Error(`There is no fault ${JSON.stringify(unknown)} to plant.`)
  return { seconds: whole('seconds', seconds, 3600), seed: whole('seed', seed, 999_999), plants: planted }
}

async function prove(given: Arguments, signal: AbortSignal): Promise<boolean> {
  const cores = cpus()
  const planted = given.plants.length > 0 ? `, with planted faults: ${given.plants.join(', ')}` : ''
  console.log(
    `${REPLICAS} replicas for ${given.seconds} s, seed ${given.seed}${planted}; ` +
      `${cores.length} cores (${cores[0]?.model}), Node ${process.versions.node}`
  )
  const world = new World(given.seed)
  const overtime = setTimeout(
    () => {
      world.find('stuck', 'the run does not end')
      report(world, '')
      process.exit(1)
    },
    given.seconds * 1000 + OVERTIME_MS
  )
  signal.addEventListener('abort', () => world.ended.abort())
  await withDataDir(async (dataDir) => {
    const engines: Movable[] = []
    const replicas: Replica[] = []
    const stops: (() => void)[] = []
    try {
      const database = await startMovableDatabase(dataDir)
      engines.push(database)
      const sessions = await startMovableSessions(dataDir)
      engines.push(sessions)
      const lossy = await startLossyRedis(world, Number(sessions.env['REDIS_PORT']))
      stops.push(lossy.stop)
      const planted = given.plants.map((name) => plants[name] ?? {})
      const env = {
        ...database.env,
        ...sessions.env,
        REDIS_PORT: `${lossy.port}`,
        ...Object.assign({}, ...planted.map(({ env }) => env))
      }
      const server = planted.find(({ server }) => server !== undefined)?.server
      replicas.push(...(await startReplicas(REPLICAS, env, (how) => world.find('crash', how), server)))
      await run(world, given, { database, sessions, replicas })
    } finally {
      world.ended.abort()
      await Promise.all(replicas.map((replica) => replica.end('SIGKILL')))
      for (const stop of stops) stop()
      await Promise.allSettled(engines.map((engine) => engine.stop()))
    }
  })
  clearTimeout(overtime)
  signal.throwIfAborted()
  for (const what of [
    'posts acknowledged',
    'SQL transactions committed',
    'events delivered',
    'messages deleted by moderators',
    'publications lost',
    'publications doubled',
    'publications out of order',
    ...(world.tally.has('cuts of LISTEN') ? ['LISTEN connections cut'] : [])
  ]) {
    if (!world.tally.get(what)) world.find('nothing', `the run had no ${what}`)
  }
  return report(world, 'nothing lost, nothing doubled, one order for everyone, and moderation holds')
}

async function run(world: World, given: Arguments, parts: Parts): Promise<void> {
  const { database, replicas } = parts
  world.urls = replicas.map(({ url }) => url)
  await allReady(world.urls, world.ended.signal)
  const admin = await database.connect()
  await prepare(admin)
  const names = Array.from({ length: AUTHORS + CARELESS_AUTHORS }, (_, i) =>
    i < AUTHORS ? `author${i}` : `careless${i}`
  )
  const users = await Promise.all(names.map((nickname) => register(world, nickname)))
  const judging = await register(world, 'moderator')
  await appoint(admin, judging.userId)
  const members = await Promise.all(
    Array.from({ length: MEMBERS }, async (_, i) =>
      createMember(`member${i}`, await register(world, `member${i}`))
    )
  )
  const planted = given.plants.map((name) => plants[name] ?? {})
  for (const { sql } of planted) if (sql !== undefined) await admin.query(sql)
  await admin.end()

  const pollers: Poller[] = Array.from({ length: 2 * POLLERS }, (_, i) => ({
    name: i < POLLERS ? `poller${i}` : `waiter${i}`,
    seen: []
  }))
  const streams: Stream[] = Array.from({ length: STREAMS }, (_, i) => ({ name: `stream${i}`, sessions: [] }))
  const writing = Promise.all([
    ...names.map((name, i) => author(world, name, users[i]!.token, i < AUTHORS)),
    ...members.map((who) => member(world, who)),
    ...Array.from({ length: PROGRAMS }, (_, i) => program(world, `program${i}`, database.connect))
  ])
  const reading = Promise.all([
    ...pollers.map((reader, i) => poller(world, reader, i >= POLLERS)),
    ...streams.map((reader) => stream(world, reader))
  ])
  const moderating = moderator(world, judging.token, members, database.connect)
  const failing = faults(world, world.random('faults'), parts, planted)

  // Whoever fails unexpectedly ends the run at once.
  await Promise.race([
    world.sleep(given.seconds * 1000),
    Promise.all([writing, moderating, reading, failing])
  ])
  world.writing = false
  const written = await inTime(
    failing
      .then(() => allReady(world.urls, world.ended.signal))
      .then(() => moderating)
      .then(() => writing)
  )
  if (!written) {
    return world.find(
      'stuck',
      `not every replica was ready and every post acknowledged within ${TIMEOUT_MS / 1000} s`
    )
  }
  await judge(world, database, written.flat(), pollers, streams, reading)
}

const inTime = (writing: Promise<Written[][]>) =>
  Promise.race([writing, sleep(TIMEOUT_MS, undefined, { ref: false })])

await runCommand(USAGE, readArguments, prove)
