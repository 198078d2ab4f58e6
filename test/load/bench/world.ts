import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Redis } from 'ioredis'
import pg from 'pg'
import { type Config, loadConfig } from '../../../src/config.ts'
import { migrations } from '../../../src/database/migrations.ts'
import { canRun } from '../../../src/embedded/process.ts'
import { startDatabase, startSessions } from '../../proof/cluster.ts'
import { embedded, SERVER, type Service, withDataDir, withService } from '../service.ts'
import { cpuSeconds, onFirstCore } from './processes.ts'

export const USERS = 200
/** A database as the service makes it, and one as Django does, where nothing orders the messages. */
export const [NAIVE, UNORDERED] = ['naive', 'unordered']
const MESSAGES = 5000
// Enough for a fleet of followers.
const MAX_CONNECTIONS = 300

/** Seconds of CPU. */
export interface Cpu {
  service: number
  postgres: number
  redis: number
}

/**
 * Engines of this run's own, a seeded database for each rival, and a session for each user, which are the
 * same everywhere.
 */
export interface World {
  tokens: string[]
  signal: AbortSignal
  sql: (database: string, text: string) => Promise<pg.QueryResult>
  /** What leads to the engines, and to one of the databases. */
  config: (database: string) => Config
  /** Starts the service on the first core, unless `cores` says otherwise, on a database that it migrates. */
  withService: <Result>(
    database: string,
    work: (service: Service) => Promise<Result>,
    cores?: string[]
  ) => Promise<Result>
  /** Starts one of the programs of this folder instead. */
  withRival: <Result>(
    file: string,
    env: NodeJS.ProcessEnv,
    work: (rival: Service) => Promise<Result>
  ) => Promise<Result>
  /** What some processes, and the engines, have used so far. */
  cpu: (...pids: number[]) => Cpu
  redisConnections: () => Promise<number>
}

export const seedUsers = `insert into chat_user (nickname, password_hash) select 'user ' || n, '' from generate_series(1, ${USERS}) n`
/** SQL that adds messages of the length of most that people write. */
export const seedMessages = (count: number) => `insert into chat_message (user_id, text, created_at)
  select 1 + n % ${USERS}, 'As long a sentence as most that people write in a chat: ' || n, now() from generate_series(1, ${count}) n`

export async function withWorld<Result>(
  signal: AbortSignal,
  work: (world: World) => Promise<Result>
): Promise<Result> {
  // Its stand-in would run in this very process, and be measured with it.
  if (!['redis-server', 'valkey-server'].some((name) => canRun(name, '--version'))) {
    throw new Error('a redis-server or valkey-server must be on the PATH')
  }
  return withDataDir(async (DATA_DIR) => {
    const postgres = await startDatabase(DATA_DIR)
    const redis = await startSessions(DATA_DIR)
    const env = { ...process.env, ...embedded, DATA_DIR, ...postgres.env, ...redis.env }
    try {
      await runSql(env, signal, 'postgres', `alter system set max_connections = ${MAX_CONNECTIONS}`)
      await postgres.down()
      await postgres.up()
      return await work(await build(signal, DATA_DIR, env))
    } finally {
      await Promise.all([postgres.down(), redis.down()])
    }
  })
}

async function runSql(
  env: NodeJS.ProcessEnv,
  signal: AbortSignal,
  database: string,
  text: string
): Promise<pg.QueryResult> {
  const client = new pg.Client({
    host: env['POSTGRES_HOST'],
    port: Number(env['POSTGRES_PORT']),
    user: env['POSTGRES_USER'],
    password: env['POSTGRES_PASSWORD'],
    database
  })
  const stop = async () => client.end() // which breaks off a statement that may take a minute
  signal.throwIfAborted()
  signal.addEventListener('abort', stop)
  await client.connect()
  return client.query(text).finally(() => {
    signal.removeEventListener('abort', stop)
    return client.end()
  })
}

async function build(
  signal: AbortSignal,
  dataDir: string,
  env: Record<string, string | undefined>
): Promise<World> {
  const sql = (database: string, text: string) => runSql(env, signal, database, text)
  const start = <Result>(
    program: string[],
    extra: NodeJS.ProcessEnv,
    use: (service: Service) => Promise<Result>,
    cores = onFirstCore
  ) => withService({ ...env, ...extra }, signal, use, [...cores, process.execPath, ...program])

  const withRedis = <Result>(use: (redis: Redis) => Promise<Result>) => {
    const redis = new Redis({
      host: env['REDIS_HOST'] ?? '',
      port: Number(env['REDIS_PORT']),
      password: env['REDIS_PASSWORD'] ?? ''
    })
    return use(redis).finally(() => redis.disconnect())
  }
  const tokens = Array.from({ length: USERS }, () => randomBytes(32).toString('hex'))
  const redisPid = await withRedis(async (redis) => {
    await redis.mset(tokens.flatMap((token, i) => [`session:${token}`, i + 1]))
    return Number(/process_id:(\d+)/.exec(await redis.info('server'))?.[1])
  })
  const postgresPid = Number(readFileSync(join(dataDir, 'postgres/postmaster.pid'), 'utf8').split('\n')[0])

  for (const database of [NAIVE, UNORDERED]) await sql('postgres', `create database ${database}`)
  const world: World = {
    tokens,
    signal,
    sql,
    config: (database) => loadConfig({ ...env, POSTGRES_DB: database }),
    withService: (database, use, cores) => start([SERVER], { POSTGRES_DB: database }, use, cores),
    withRival: (file, extra, use) =>
      start(['--import', 'tsx', fileURLToPath(new URL(file, import.meta.url))], extra, use),
    cpu: (...pids) => ({
      service: pids.reduce((sum, pid) => sum + cpuSeconds(pid), 0),
      postgres: cpuSeconds(postgresPid),
      redis: cpuSeconds(redisPid)
    }),
    redisConnections: () =>
      withRedis(async (redis) => Number(/connected_clients:(\d+)/.exec(await redis.info('clients'))?.[1]) - 1)
  }
  for (const database of ['postgres', NAIVE]) await world.withService(database, async () => {})
  await sql(UNORDERED, migrations[0]?.sql ?? '')
  for (const database of ['postgres', NAIVE, UNORDERED]) {
    await sql(database, `${seedUsers}; ${seedMessages(MESSAGES)}`)
    await sql(database, 'vacuum analyze')
  }
  return world
}
