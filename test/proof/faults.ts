import { setTimeout as sleep } from 'node:timers/promises'
import { readBlackout, SABOTAGE, sabotage } from './blackout.ts'
import type { Engine, MovablePostgres, MovableSessions } from './cluster.ts'
import type { Plant } from './plants.ts'
import { allReady, type Replica } from './replicas.ts'
import type { Random, World } from './world.ts'

/** What can fail in a run. */
export interface Parts {
  database: MovablePostgres
  sessions: MovableSessions
  replicas: Replica[]
}
type Fault = [name: string, fault: () => Promise<void>]

/**
 * What goes wrong, over and over in a shuffled order, until nobody writes any more. Afterwards everything
 * runs again.
 * @param planted its faults come before all others
 */
export async function faults(world: World, random: Random, parts: Parts, planted: Plant[]): Promise<void> {
  const deck = createDeck(world, random, parts)
  const first = planted.flatMap<Fault>(({ first }) => {
    if (typeof first === 'function') return [['planted faults', () => first(parts)]]
    return deck.filter(([name]) => name === first).slice(0, 1)
  })
  for (let next = first; ; next = random.shuffled(deck)) {
    for (const [name, fault] of next) {
      await world.sleep(random.between(200, 2500))
      if (!world.writing) return
      world.count(name)
      await fault()
    }
  }
}

function createDeck(world: World, random: Random, { database, sessions, replicas }: Parts): Fault[] {
  const downFor = () => sleep(random.between(100, 2500))
  const outage = async (engine: Engine, signal?: 'SIGINT' | 'SIGQUIT') => {
    await engine.down(signal)
    await downFor()
    await engine.up()
  }
  const restart = async (signal: 'SIGKILL' | 'SIGTERM', replica = random.pick(replicas)) => {
    await replica.end(signal)
    await downFor()
    replica.start()
  }
  /** Does something to the replica that announces, or to any where none does just now. */
  const toAnnouncer = async (what: string, fault: (replica: Replica) => Promise<void>) => {
    const answers = await Promise.all(replicas.map((replica) => replica.isAnnouncer()))
    const announcer = replicas[answers.indexOf(true)]
    if (announcer) world.count(what)
    await fault(announcer ?? random.pick(replicas))
  }
  const pause = async (replica: Replica) => {
    replica.pause()
    await sleep(random.between(500, 7500)) // The longest is longer than PostgreSQL waits for a follower.
    replica.resume()
  }
  const deafen = async () => {
    const client = await database.connect()
    // Right after another fault, no replica may be connected yet.
    for (let cut = 0; cut === 0 && !world.ended.signal.aborted; await world.sleep(50)) {
      const { rowCount } = await client.query(
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'chat-backend log'"
      )
      cut = rowCount ?? 0
      world.count('LISTEN connections cut', cut)
    }
    await client.end()
  }
  const deck: Fault[] = [
    ['replicas killed', () => restart('SIGKILL')],
    ['replicas killed', () => restart('SIGKILL')],
    ['replicas restarted', () => restart('SIGTERM')],
    ['kills of the announcer', () => toAnnouncer('announcers killed', (it) => restart('SIGKILL', it))],
    ['pauses of the announcer', () => toAnnouncer('announcers paused', pause)],
    ['cuts of LISTEN', deafen],
    ['cuts of LISTEN', deafen],
    ['PostgreSQL restarts', () => outage(database)],
    ['PostgreSQL crashes', () => outage(database, 'SIGQUIT')],
    ['PostgreSQL switchovers', () => database.switchOver()],
    [
      'triggers of the log put out of force',
      () => blackOut(world, random, database, () => restart('SIGTERM'))
    ],
    ['Redis restarts', () => outage(sessions)]
  ]
  if (sessions.failOver) {
    deck.push(['Redis failovers', sessions.failOver], ['Redis failovers', sessions.failOver])
  }
  return deck
}

/** Changes do not reach the log for a moment, until the start of a replica repairs that. */
async function blackOut(
  world: World,
  random: Random,
  database: MovablePostgres,
  restart: () => Promise<void>
): Promise<void> {
  world.blackoutChanges++
  const client = await database.connect()
  const from = await sabotage(client, random.pick(SABOTAGE))
  await world.sleep(random.between(100, 2500))
  await restart()
  await allReady(world.urls, world.ended.signal)
  world.blackouts.push(await readBlackout(client, from, world.blackouts))
  await client.end()
  world.blackoutChanges++
}
