import { randomInt } from 'node:crypto'
import { cpus } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { SIGN_FUNCTIONS } from '../../src/database/event-log-check.ts'
import { runCommand, whole } from '../load/command.ts'
import { withDataDir } from '../load/service.ts'
import type { Poller, Stream, Written } from './checker.ts'
import { type Engine, type Postgres, startDatabase, startSessions } from './cluster.ts'
import { judge, register, report } from './evidence.ts'
import { faults } from './faults.ts'
import { prepare, program } from './programs.ts'
import { poller, stream } from './readers.ts'
import { allReady, type Replica, startReplicas } from './replicas.ts'
import { World } from './world.ts'
import { author } from './writers.ts'

// `npm run proof`: that nothing is lost, nothing comes twice and everybody sees one order, while everything
// fails that can. Three replicas of the built service on a PostgreSQL and a Redis of their own.

const REPLICAS = 3
const AUTHORS = 12
const CARELESS_AUTHORS = 2
const PROGRAMS = 3
const POLLERS = 3 // and as many who wait
const STREAMS = 4
/** How long replicas may take to be ready again, and writers to finish what they began. */
const TIMEOUT_MS = 45_000

/** Faults of the service itself, which the proof must find. */
const plants: Record<string, string> = {
  // Marked as the service marks its own, because it would say so and repair it otherwise.
  'no-lock': `create or replace function chat_event_lock () returns trigger language plpgsql as $$ begin return null; end $$; ${SIGN_FUNCTIONS}`
}

const USAGE = `npm run proof -- [--seconds 60] [--seed 1] [--plant ${Object.keys(plants).join(' | ')}]`

interface Arguments {
  seconds: number
  seed: number
  plant: string | undefined
}

function readArguments(): Arguments {
  const {
    values: { seconds, seed, plant }
  } = parseArgs({
    options: {
      seconds: { type: 'string', default: '60' },
      seed: { type: 'string', default: `${randomInt(1, 1_000_000)}` },
      plant: { type: 'string' }
    }
  })
  if (plant !== undefined && !Object.hasOwn(plants, plant)) {
    throw new Error(`There is no fault ${JSON.stringify(plant)} to plant.`)
  }
  return { seconds: whole('seconds', seconds, 3600), seed: whole('seed', seed, 999_999), plant }
}

async function prove({ seconds, seed, plant }: Arguments, signal: AbortSignal): Promise<boolean> {
  const cores = cpus()
  console.log(
    `${REPLICAS} replicas for ${seconds} s, seed ${seed}${plant ? `, with a planted fault: ${plant}` : ''}; ` +
      `${cores.length} cores (${cores[0]?.model}), Node ${process.versions.node}`
  )
  const world = new World(seed)
  signal.addEventListener('abort', () => {
    world.writing = false
    world.ended.abort()
  })
  await withDataDir(async (dataDir) => {
    const engines: Engine[] = []
    const replicas: Replica[] = []
    try {
      const database = await startDatabase(dataDir)
      engines.push(database)
      const sessions = await startSessions(dataDir)
      engines.push(sessions)
      replicas.push(
        ...(await startReplicas(REPLICAS, { ...database.env, ...sessions.env }, (how) =>
          world.find('crash', how)
        ))
      )
      await run(world, seconds, plant, database, sessions, replicas)
    } finally {
      world.ended.abort()
      await Promise.all(replicas.map((replica) => replica.end('SIGKILL')))
      await Promise.allSettled(engines.map((engine) => engine.down('SIGINT')))
    }
  })
  signal.throwIfAborted()
  for (const what of [
    'posts acknowledged',
    'SQL transactions committed',
    'events delivered',
    ...(world.tally.has('cuts of LISTEN') ? ['LISTEN connections cut'] : [])
  ]) {
    if (!world.tally.get(what)) world.find('nothing', `the run had no ${what}`)
  }
  return report(world, 'nothing lost, nothing twice, one order for everybody')
}

async function run(
  world: World,
  seconds: number,
  plant: string | undefined,
  database: Postgres,
  sessions: Engine,
  replicas: Replica[]
): Promise<void> {
  world.urls = replicas.map(({ url }) => url)
  await allReady(world.urls, world.ended.signal)
  const admin = await database.connect()
  await prepare(admin)
  if (plant) await admin.query(plants[plant]!)
  await admin.end()
  const names = Array.from({ length: AUTHORS + CARELESS_AUTHORS }, (_, i) =>
    i < AUTHORS ? `author${i}` : `careless${i}`
  )
  const tokens = await Promise.all(names.map((nickname) => register(world, nickname)))

  const pollers: Poller[] = Array.from({ length: 2 * POLLERS }, (_, i) => ({
    name: i < POLLERS ? `poller${i}` : `waiter${i}`,
    seen: []
  }))
  const streams: Stream[] = Array.from({ length: STREAMS }, (_, i) => ({ name: `stream${i}`, sessions: [] }))
  const writing = Promise.all([
    ...names.map((name, i) => author(world, name, tokens[i]!, i < AUTHORS)),
    ...Array.from({ length: PROGRAMS }, (_, i) => program(world, `program${i}`, database.connect))
  ])
  const reading = Promise.all([
    ...pollers.map((reader, i) => poller(world, reader, i >= POLLERS)),
    ...streams.map((reader) => stream(world, reader))
  ])
  const failing = faults(world, world.random('faults'), database, sessions, replicas)

  // Whoever fails unexpectedly ends the run at once.
  await Promise.race([world.sleep(seconds * 1000), Promise.all([writing, reading, failing])])
  world.writing = false
  await failing
  const written = await inTime(allReady(world.urls, world.ended.signal).then(() => writing))
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
