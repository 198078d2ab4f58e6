import { randomInt } from 'node:crypto'
import { TAIL_LENGTH } from '../../../src/chat/timeline.ts'
import type { Service } from '../service.ts'
import type { Row } from './report.ts'
import { compare, type Scenario } from './requests.ts'
import { seedMessages, seedUsers, type World } from './world.ts'

// Pages that PostgreSQL reads, from anywhere in tables of very different sizes.

const PAGES = 2000
const PAGE = 50
const SIZES = [1e3, 1e5, 1e7]
const named = (size: number) => `${size.toLocaleString('en')} messages`

/**
 * Fills the tables of a database that was migrated without what a row costs otherwise: triggers, the check of
 * the user, the second index.
 */
const fill = (count: number) => `set session_replication_role = replica; set maintenance_work_mem = '256MB';
  drop index chat_message_user_id;
  ${seedUsers}; ${seedMessages(count)};
  create index chat_message_user_id on chat_message (user_id)`

/** Starts the service on a table of each size. */
async function withTables<Result>(
  world: World,
  [size, ...more]: number[],
  use: (started: Record<string, Service>) => Promise<Result>,
  started: Record<string, Service> = {}
): Promise<Result> {
  if (size === undefined) return use(started)
  const database = `grown_${size}`
  await world.sql('postgres', `create database ${database}`)
  // It makes the tables, and must not follow what comes next.
  await world.withService(database, async () => {})
  await world.sql(database, fill(size + TAIL_LENGTH))
  for (const statement of ['vacuum analyze', 'checkpoint']) await world.sql(database, statement)
  return world.withService(database, (service) =>
    withTables(world, more, use, { ...started, [named(size)]: service })
  )
}

/**
 * @returns rows of the largest table against each, the largest not above `most` messages, and the names of
 * the largest two
 */
export async function growth(
  world: World,
  given: { rounds: number; seconds: number; most: number }
): Promise<{ rows: Row[]; largest: string; than: string }> {
  const sizes = SIZES.filter((size, i) => i < 2 || size <= given.most)
  const rivals = sizes.map(named)
  const [than = '', largest = than] = rivals.slice(-2)
  // The service has the newest at hand.
  const scenario = (name: string, query: (oldest: number) => string): Scenario => ({
    name,
    rivals,
    connections: 16,
    options: ({ newest }) => ({
      requests: Array.from({ length: PAGES }, () => ({
        path: `/api/messages?${query(newest - TAIL_LENGTH)}`
      }))
    })
  })
  const scenarios = [
    scenario('page after a random id', (last) => `after_id=${randomInt(last - PAGE)}`),
    scenario('page before a random id', (last) => `before_id=${randomInt(PAGE, last) + 1}`)
  ]
  return withTables(world, sizes, async (started) => ({
    rows: await compare(world, scenarios, started, largest, given),
    largest,
    than
  }))
}
