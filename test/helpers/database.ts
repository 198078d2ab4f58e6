import { randomBytes } from 'node:crypto'
import pg from 'pg'
import { type Config, loadConfig } from '../../src/config.ts'
import { connectionOptions } from '../../src/plugins/postgres.ts'

/** The engines of this test run, from test/run.ts. */
export const config: Config = loadConfig(process.env)

interface Test { teardown: (work: () => Promise<unknown>) => void }

/** Runs SQL beside the databases of the tests. */
export const admin = async (sql: string) => {
  const client = new pg.Client({ ...connectionOptions(config), statement_timeout: 0, query_timeout: 0 })
  await client.connect()
  await client.query(sql).finally(() => client.end())
}

/** Makes an empty database for one test. @returns its name */
export async function createDatabase (t: Test): Promise<string> {
  const name = `test_${randomBytes(8).toString('hex')}`
  await admin(`create database ${name} template template0`)
  t.teardown(() => admin(`drop database ${name} with (force)`))
  return name
}

/** Connects to a database of this run, for a look from outside. */
export async function connect (t: Test, database: string): Promise<pg.Client> {
  const client = new pg.Client({ ...connectionOptions(config), database })
  await client.connect()
  client.on('error', () => {})
  t.teardown(() => client.end())
  return client
}
