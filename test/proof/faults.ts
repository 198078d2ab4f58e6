import { setTimeout as sleep } from 'node:timers/promises'
import type { Engine, Postgres } from './cluster.ts'
import type { Replica } from './replicas.ts'
import type { Random, World } from './world.ts'

/**
 * What goes wrong, over and over in a shuffled order, until nobody writes any more. Afterwards everything
 * runs again.
 */
export async function faults(
  world: World,
  random: Random,
  database: Postgres,
  sessions: Engine,
  replicas: Replica[]
): Promise<void> {
  const downFor = () => sleep(random.between(100, 2500))
  const outage = async (engine: Engine, signal?: 'SIGINT' | 'SIGQUIT') => {
    await engine.down(signal)
    await downFor()
    await engine.up()
  }
  const restart = async (signal: 'SIGKILL' | 'SIGTERM') => {
    const replica = random.pick(replicas)
    await replica.end(signal)
    await downFor()
    replica.start()
  }
  const deafen = async () => {
    const client = await database.connect()
    const { rowCount } = await client.query(
      "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'chat-backend log'"
    )
    await client.end()
    world.count('LISTEN connections cut', rowCount ?? 0)
  }
  const deck: [name: string, fault: () => Promise<void>][] = [
    ['replicas killed', () => restart('SIGKILL')],
    ['replicas killed', () => restart('SIGKILL')],
    ['replicas restarted', () => restart('SIGTERM')],
    ['cuts of LISTEN', deafen],
    ['cuts of LISTEN', deafen],
    ['PostgreSQL restarts', () => outage(database)],
    ['PostgreSQL crashes', () => outage(database, 'SIGQUIT')],
    ['Redis restarts', () => outage(sessions)]
  ]
  while (world.writing) {
    for (const [name, fault] of random.shuffled(deck)) {
      await world.sleep(random.between(200, 2500))
      if (!world.writing) return
      world.count(name)
      await fault()
    }
  }
}
