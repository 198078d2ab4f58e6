import { cpus } from 'node:os'
import { parseArgs } from 'node:util'
import { freePort } from '../../src/embedded/process.ts'
import { runCommand, whole } from '../load/command.ts'
import { withDataDir } from '../load/service.ts'
import type { Poller, Stream } from './checker.ts'
import { type Engine, type Postgres, startDatabase, startSessions } from './cluster.ts'
import { judge, register, report } from './evidence.ts'
import { type Proxy, startNginx } from './nginx.ts'
import { poller, stream } from './readers.ts'
import { allReady, Replica, startReplicas } from './replicas.ts'
import { World } from './world.ts'
import { author } from './writers.ts'

// `npm run rolling-update`: that nobody notices when two replicas behind nginx are replaced under load, one
// after the other, as Kubernetes does it: the new one gets requests when it is ready; then the old one is
// told to end, and a moment later nginx is told to send it nothing more.

const AUTHORS = 12
const POLLERS = 4 // and as many who wait
const STREAMS = 6
const SHUTDOWN_DELAY_SECONDS = 2
/** How long the news that a replica ends may be under way to the proxy; shorter than the delay. */
const ROUTING_LAG_MS = 1000
const BETWEEN_MS = 1000
/** How long requests wait for a replica that is killed then. */
const HELD_MS = 200
/** What nobody may have met: any answer but the wanted one, and a connection that ended in the middle. */
const FAILURES = [
  'answers 429',
  'answers 503',
  'requests without an answer',
  'posts sent again',
  'streams broken'
]

const USAGE = 'npm run rolling-update -- [--seconds 20] [--seed 1] [--plant kill]'
interface Arguments {
  seconds: number
  seed: number
  signal: 'SIGTERM' | 'SIGKILL'
}

function readArguments(): Arguments {
  const {
    values: { seconds, seed, plant }
  } = parseArgs({
    options: {
      seconds: { type: 'string', default: '20' },
      seed: { type: 'string', default: '1' },
      plant: { type: 'string' }
    }
  })
  if (plant !== undefined && plant !== 'kill') {
    throw new Error(`There is no fault ${JSON.stringify(plant)} to plant.`)
  }
  return {
    seconds: whole('seconds', seconds, 3600),
    seed: whole('seed', seed, 999_999),
    signal: plant ? 'SIGKILL' : 'SIGTERM'
  }
}

async function prove(given: Arguments, signal: AbortSignal): Promise<boolean> {
  const cores = cpus()
  console.log(
    `two replicas behind nginx for ${given.seconds} s, seed ${given.seed}, ended by ${given.signal}; ${cores.length} cores (${cores[0]?.model}), Node ${process.versions.node}`
  )
  const world = new World(given.seed)
  world.cutting = false // Whoever hangs up is not a client that was failed.
  signal.addEventListener('abort', () => world.ended.abort())
  await withDataDir(async (dataDir) => {
    const engines: Engine[] = []
    const replicas: Replica[] = []
    let proxy: Proxy | undefined
    try {
      const database = await startDatabase(dataDir)
      engines.push(database)
      const sessions = await startSessions(dataDir)
      engines.push(sessions)
      const env = {
        ...database.env,
        ...sessions.env,
        SHUTDOWN_DELAY: `${SHUTDOWN_DELAY_SECONDS}`,
        TRUST_PROXY: '127.0.0.1'
      }
      const onCrash = (how: string) => world.find('crash', how)
      replicas.push(...(await startReplicas(2, env, onCrash)))
      await allReady(
        replicas.map(({ url }) => url),
        world.ended.signal
      )
      proxy = await startNginx(
        dataDir,
        replicas.map(({ url }) => url)
      )
      world.urls = [proxy.url]
      world.isBehindProxy = true
      await run(
        world,
        given,
        database,
        replicas,
        proxy,
        async () => new Replica(await freePort(), env, onCrash)
      )
    } finally {
      world.ended.abort()
      await Promise.allSettled([...replicas.map((replica) => replica.end('SIGKILL')), proxy?.stop()])
      await Promise.allSettled(engines.map((engine) => engine.down('SIGINT')))
    }
  })
  signal.throwIfAborted()
  return report(
    world,
    'not one request failed, no acknowledged post was lost or doubled, and every reader saw each message once'
  )
}

async function run(
  world: World,
  { seconds, signal }: Arguments,
  database: Postgres,
  replicas: Replica[],
  proxy: Proxy,
  another: () => Promise<Replica>
): Promise<void> {
  const names = Array.from({ length: AUTHORS }, (_, i) => `author${i}`)
  const users = await Promise.all(names.map((nickname) => register(world, nickname)))
  const pollers: Poller[] = Array.from({ length: 2 * POLLERS }, (_, i) => ({
    name: i < POLLERS ? `poller${i}` : `waiter${i}`,
    seen: []
  }))
  const streams: Stream[] = Array.from({ length: STREAMS }, (_, i) => ({ name: `stream${i}`, sessions: [] }))
  const writing = Promise.all(names.map((name, i) => author(world, name, users[i]!.token, true)))
  const reading = Promise.all([
    ...pollers.map((reader, i) => poller(world, reader, i >= POLLERS)),
    ...streams.map((reader) => stream(world, reader))
  ])

  const until = performance.now() + seconds * 1000
  for (let replaced = 0; replaced < 2 || performance.now() < until; replaced++) {
    await world.sleep(BETWEEN_MS)
    await replace(world, signal, replicas, proxy, await another())
    world.ended.signal.throwIfAborted()
  }
  await world.sleep(BETWEEN_MS)
  world.writing = false
  const written = (await writing).flat()
  for (const what of FAILURES) {
    if (world.tally.has(what)) world.find('failed', `${what}: ${world.tally.get(what)}`)
  }
  await judge(world, database, written, pollers, streams, reading)
}

async function replace(
  world: World,
  signal: Arguments['signal'],
  replicas: Replica[],
  proxy: Proxy,
  next: Replica
): Promise<void> {
  replicas.push(next)
  next.start()
  await allReady([next.url], world.ended.signal)
  await proxy.route(replicas.map(({ url }) => url))
  await world.sleep(BETWEEN_MS)
  const [old] = replicas
  if (signal === 'SIGKILL') {
    // So that it surely has requests to lose, however quickly it answers them.
    old!.pause()
    await world.sleep(HELD_MS)
  }
  const ended = old!.end(signal)
  await world.sleep(ROUTING_LAG_MS)
  await proxy.route(replicas.slice(1).map(({ url }) => url))
  const how = await ended
  if (how !== 0) world.find('end', `a replica ended with ${how}`)
  replicas.shift()
  world.count('replicas replaced')
}

await runCommand(USAGE, readArguments, prove)
