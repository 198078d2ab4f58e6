import { randomBytes, randomInt } from 'node:crypto'
import { Redis } from 'ioredis'
import pg from 'pg'
import { type Config, loadConfig } from '../../src/config.ts'
import { connectionOptions, NO_LIMITS } from '../../src/plugins/postgres.ts'

/** The engines of this test run, from test/run.ts. */
export const config: Config = loadConfig(process.env)

interface Test {
  teardown: (work: () => unknown) => void
}

// Far above the ids of a database that counts its users from 1.
const FIRST_OWN_ID = 2 ** 30

// What a test does by itself may take as long as it likes, on a machine with much to do.
const unlimited = { ...connectionOptions(config, NO_LIMITS), connectionTimeoutMillis: 0 }

/** Runs SQL beside the databases of the tests. */
export const admin = async (sql: string) => {
  const client = new pg.Client(unlimited)
  await client.connect()
  await client.query(sql).finally(() => client.end())
}

/** Makes an empty database for one test. @returns its name */
export const createDatabase = (t: Test): Promise<string> => copyDatabase(t, 'template0')

/** Makes a database for one test, with the tables of the service. @returns its name */
export const createMigratedDatabase = (t: Test): Promise<string> =>
  copyDatabase(t, process.env['TEST_TEMPLATE'] ?? 'template0') // of test/run.ts

async function copyDatabase(t: Test, template: string): Promise<string> {
  const name = `test_${randomBytes(8).toString('hex')}`
  await admin(`create database ${name} template ${template}`)
  t.teardown(() => admin(`drop database ${name} with (force)`))
  return name
}

/**
 * Connects to a database of this run, for a look from outside, without the time limits of the service.
 * @param options such as another user
 */
export async function connect(t: Test, database: string, options: pg.ClientConfig = {}): Promise<pg.Client> {
  const client = new pg.Client({ ...unlimited, database, ...options })
  await client.connect()
  client.on('error', () => {})
  t.teardown(() => client.end())
  return client
}

/**
 * Gives the users of a database ids that no other test has, unless it has done so already: what Redis holds
 * of a user has the id in its name, and all tests share one Redis.
 */
export async function ownUserIds(database: string): Promise<void> {
  const client = new pg.Client({ ...unlimited, database })
  await client.connect()
  await client.query(
    `select setval(format('%I.%I', schemaname, sequencename)::regclass, $1) from pg_sequences
     where sequencename = 'chat_user_id_seq' and coalesce(last_value, 0) < $2`,
    [randomInt(FIRST_OWN_ID, 2 ** 45), FIRST_OWN_ID]
  )
  await client.end()
}

/** Connects to the Redis of this run. */
export function openRedis(t: Test): Redis {
  const redis = new Redis({
    host: config.REDIS_HOST,
    port: config.REDIS_PORT,
    password: config.REDIS_PASSWORD,
    db: config.REDIS_DB
  })
  t.teardown(() => redis.disconnect())
  return redis
}
