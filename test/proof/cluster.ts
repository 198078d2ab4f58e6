import { randomBytes } from 'node:crypto'
import { execFile } from 'node:child_process'
import {
  appendFileSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  statSync,
  writeFileSync
} from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { kill } from 'node:process'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { Redis } from 'ioredis'
import pg from 'pg'
import { startPostgres } from '../../src/embedded/postgres.ts'
import { stopWithParent, freePort, canRun, startProgram } from '../../src/embedded/process.ts'
import { startRedis } from '../../src/embedded/redis.ts'
import { startProxy } from '../helpers/proxy.ts'
import { quiet } from '../helpers/quiet.ts'
import { waitUntil } from '../helpers/raw.ts'

/** An engine that goes down and comes back on the same port with the same data. */
export interface Engine {
  /** What leads the service to it. */
  env: Record<string, string>
  /** @param signal SIGQUIT: as in a crash, without a word to anybody. */
  down: (signal?: 'SIGINT' | 'SIGQUIT') => Promise<void>
  up: () => Promise<void>
  /** Stops all its processes where they are, as on a machine that has no more time for them. */
  freeze: () => Promise<void> | void
  thaw: () => Promise<void> | void
}
export interface Sessions extends Engine {
  flush: () => Promise<unknown>
  /** Sends a command, such as one that changes its configuration. */
  call: (command: string, ...args: string[]) => Promise<unknown>
}
export interface Postgres extends Engine {
  connect: () => Promise<pg.Client>
  /** Where its files are. */
  dataDir: string
}

/** Sends a signal to a process and to all its children. */
function signalAll(pid: number, signal: NodeJS.Signals): void {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').filter(Boolean)
  for (const process of [`${pid}`, ...children]) kill(Number(process), signal)
}

const passwordFile = (dataDir: string, engine: string) => {
  const file = join(dataDir, `${engine}.password`)
  if (!existsSync(file)) writeFileSync(file, randomBytes(16).toString('hex'), { mode: 0o600 })
  return file
}

async function connectTo(env: Record<string, string>, options: pg.ClientConfig = {}): Promise<pg.Client> {
  const client = new pg.Client({
    ...options,
    host: env['POSTGRES_HOST'],
    port: Number(env['POSTGRES_PORT']),
    database: env['POSTGRES_DB'],
    user: env['POSTGRES_USER'],
    password: env['POSTGRES_PASSWORD']
  }).on('error', () => {})
  await client.connect()
  return client
}

/** Makes and starts the PostgreSQL that npm installed, as the service itself does. */
export async function startDatabase(dataDir: string): Promise<Postgres> {
  let { settings, stop } = await startPostgres(dataDir, passwordFile(dataDir, 'postgres'), quiet)
  const env = Object.fromEntries(Object.entries(settings).map(([name, value]) => [name, `${value}`]))
  const cluster = join(dataDir, 'postgres')
  const connect = () => connectTo(env)
  const postmaster = () => parseInt(readFileSync(join(cluster, 'postmaster.pid'), 'utf8'))
  const [program = '', ...args] = readFileSync(join(cluster, 'postmaster.opts'), 'utf8')
    .trim()
    .replace(/"$/, '')
    .split(/"? "/)
  return {
    env,
    dataDir,
    connect,
    down: async (signal = 'SIGINT') => {
      kill(postmaster(), signal)
      await stop()
    },
    up: async () => {
      stop = await startProgram(
        [...whoOwns(cluster), ...stopWithParent(), program, ...args],
        {
          name: 'PostgreSQL',
          logFile: join(dataDir, 'postgres.log'),
          ready: async () => (await connect()).end()
        },
        quiet
      )
    },
    freeze: () => signalAll(postmaster(), 'SIGSTOP'),
    thaw: () => signalAll(postmaster(), 'SIGCONT')
  }
}

/**
 * Copies a PostgreSQL that runs, and starts the copy as its standby:
 * https://www.postgresql.org/docs/current/continuous-archiving.html#BACKUP-LOWLEVEL-BASE-BACKUP
 * @param dataDir a folder that is there and empty
 */
export async function startStandby(primary: Postgres, dataDir: string): Promise<Postgres> {
  const [from, to] = [primary.dataDir, dataDir].map((dir) => join(dir, 'postgres')) as [string, string]
  const copy =
    'tar -C "$0" --exclude="./pg_wal/*" --exclude="./postmaster.*" -cf - . 2> /dev/null | tar -C "$1" -xf -'
  copyFileSync(join(primary.dataDir, 'postgres.password'), join(dataDir, 'postgres.password'))
  mkdirSync(to, { mode: 0o700 })
  const client = await primary.connect()
  await client.query("select pg_backup_start('standby', fast => true)")
  await promisify(execFile)('sh', ['-c', copy, from, to])
  const { rows } = await client.query('select labelfile from pg_backup_stop(wait_for_archive => false)')
  await client.end()
  const { POSTGRES_PORT: port, POSTGRES_USER: user, POSTGRES_PASSWORD: password } = primary.env
  writeFileSync(join(to, 'backup_label'), rows[0].labelfile)
  writeFileSync(join(to, 'standby.signal'), '')
  appendFileSync(
    join(to, 'postgresql.auto.conf'),
    `primary_conninfo = 'host=127.0.0.1 port=${port} user=${user} password=${password}'\n`
  )
  return startDatabase(dataDir)
}

/** Runs what follows as the user that the launcher gave the files to: PostgreSQL refuses to be root. */
function whoOwns(path: string): string[] {
  const { uid } = statSync(path)
  if (process.getuid?.() !== 0) return []
  return uid === 0
    ? ['unshare', '--user', '--map-user=65534', '--map-group=65534']
    : ['setpriv', `--reuid=${uid}`, `--regid=${uid}`, '--clear-groups']
}

const findRedis = () => ['redis-server', 'valkey-server'].find((name) => canRun(name, '--version'))

/**
 * Starts a Redis that keeps its keys; where none is installed, the store that the service has instead, which
 * is cut off rather than stopped.
 */
export async function startSessions(dataDir: string): Promise<Sessions> {
  const program = findRedis()
  if (!program) {
    const { settings, stop } = await startRedis(dataDir, passwordFile(dataDir, 'redis'), quiet)
    const proxy = await startProxy({ teardown: () => {} }, '127.0.0.1', settings.REDIS_PORT ?? 0)
    const env = {
      REDIS_HOST: '127.0.0.1',
      REDIS_PORT: `${proxy.port}`,
      REDIS_PASSWORD: settings.REDIS_PASSWORD ?? ''
    }
    const client = () =>
      new Redis({
        host: '127.0.0.1',
        port: settings.REDIS_PORT ?? 0,
        password: settings.REDIS_PASSWORD ?? ''
      })
    const flush = async () => {
      const redis = client()
      await redis.flushall().finally(() => redis.disconnect())
    }
    const call = async () => {
      throw new Error('this needs redis-server or valkey-server on the PATH')
    }
    return {
      env,
      flush,
      call,
      down: async (signal) => {
        await proxy.cut()
        if (signal) await stop()
      },
      up: proxy.mend,
      freeze: proxy.freeze,
      thaw: proxy.mend
    }
  }
  const [host, port] = ['127.0.0.1', await freePort()]
  const ask = async <Result>(question: (redis: Redis) => Promise<Result>) => {
    const client = new Redis({ host, port, lazyConnect: true, retryStrategy: () => null }).on(
      'error',
      () => {}
    )
    return client
      .connect()
      .then(() => question(client))
      .finally(() => client.disconnect())
  }
  const ready = () => ask((redis) => redis.ping())
  const start = () =>
    startProgram(
      [
        ...stopWithParent(),
        program,
        '--bind',
        host,
        '--port',
        `${port}`,
        '--appendonly',
        'yes',
        '--save',
        '',
        '--dir',
        dataDir
      ],
      { name: program, logFile: join(dataDir, 'redis.log'), ready },
      quiet
    )
  let stop = await start()
  const pid = async () => Number(/process_id:(\d+)/.exec(await ask((redis) => redis.info('server')))?.[1])
  let frozen = 0
  return {
    env: { REDIS_HOST: host, REDIS_PORT: `${port}` },
    down: () => stop(),
    up: async () => {
      stop = await start()
    },
    freeze: async () => {
      frozen = await pid()
      kill(frozen, 'SIGSTOP')
    },
    thaw: () => {
      kill(frozen, 'SIGCONT')
    },
    flush: () => ask((redis) => redis.flushall()),
    call: (command, ...args) => ask((redis) => redis.call(command, args))
  }
}

/** An address that leads to one engine, and then to another, while no connection is closed. */
export interface Movable {
  /** Ends all engines, and the address. */
  stop: () => Promise<void>
}
export interface MovablePostgres extends Postgres, Movable {
  /**
   * Makes a standby, promotes it when it has everything, and moves the address there. The old primary runs
   * on, and takes no more writes.
   * @param forgets whether what it does after the promotion is lost: a fault
   */
  switchOver: (how?: { forgets?: boolean }) => Promise<void>
}

const FORGOTTEN_MS = 500
const SILENCE_MS = 5000

/** Starts a PostgreSQL that can be switched over. */
export async function startMovableDatabase(dataDir: string): Promise<MovablePostgres> {
  const subfolder = (n: number) => {
    const path = join(dataDir, `postgres-${n}`)
    mkdirSync(path)
    return path
  }
  const first = await startDatabase(subfolder(1))
  const proxy = await startProxy({ teardown: () => {} }, '127.0.0.1', Number(first.env['POSTGRES_PORT']))
  let generation = 1
  let current = first
  let retired: Postgres | undefined
  const env = { ...first.env, POSTGRES_PORT: `${proxy.port}` }
  const retire = async () => {
    await retired?.down('SIGQUIT')
    if (retired) await rm(retired.dataDir, { recursive: true, force: true })
    retired = undefined
  }
  const switchOver: MovablePostgres['switchOver'] = async ({ forgets = false } = {}) => {
    await retire()
    const standby = await startStandby(current, subfolder(++generation))
    const [old, next] = await Promise.all([current.connect(), standby.connect()])
    if (!forgets) {
      await fence(old)
      const { rows } = await old.query('select pg_current_wal_lsn() as position')
      const hasAll = 'select pg_last_wal_replay_lsn() >= $1 as yes'
      await waitUntil(
        'the standby has everything',
        async () => (await next.query(hasAll, [rows[0].position])).rows[0].yes
      )
    }
    await next.query('select pg_promote()')
    if (forgets) await sleep(FORGOTTEN_MS)
    proxy.redirect(Number(standby.env['POSTGRES_PORT']))
    await Promise.all([next.end(), old.end()])
    retired = current
    current = standby
  }
  return {
    env,
    switchOver,
    get dataDir() {
      return current.dataDir
    },
    // Whoever gets no answer goes on.
    connect: () => connectTo(env, { connectionTimeoutMillis: SILENCE_MS, query_timeout: SILENCE_MS }),
    down: (signal) => current.down(signal),
    up: () => current.up(),
    freeze: () => current.freeze(),
    thaw: () => current.thaw(),
    stop: async () => {
      await Promise.allSettled([retire(), current.down()])
      await proxy.cut()
    }
  }
}

/** Forbids writes, and waits until no transaction is left that may write. */
async function fence(client: pg.Client): Promise<void> {
  await client.query('alter system set default_transaction_read_only = on')
  await client.query('select pg_reload_conf()')
  await waitUntil('the server is read-only', async () => {
    const { rows } = await client.query('show default_transaction_read_only')
    return rows[0].default_transaction_read_only === 'on'
  })
  const { rows } = await client.query('select clock_timestamp()::text as time')
  const begunBefore = `select from pg_stat_activity
    where backend_type = 'client backend' and pid <> pg_backend_pid() and xact_start <= $1`
  await waitUntil(
    'transactions that may write have ended',
    async () => (await client.query(begunBefore, [rows[0].time])).rowCount === 0
  )
}

export interface MovableSessions extends Sessions, Movable {
  /** Makes the master a replica of its replica, and moves the address there; not where there is no Redis. */
  failOver: (() => Promise<void>) | undefined
}

/** Starts a Redis that can be demoted, with its replica. */
export async function startMovableSessions(dataDir: string): Promise<MovableSessions> {
  const subfolder = (name: string) => {
    const path = join(dataDir, name)
    mkdirSync(path)
    return path
  }
  let master = await startSessions(subfolder('redis-1'))
  if (findRedis() === undefined) {
    return { ...master, failOver: undefined, stop: () => master.down('SIGINT') }
  }
  let replica = await startSessions(subfolder('redis-2'))
  const portOf = ({ env }: Sessions) => env['REDIS_PORT'] ?? ''
  await replica.call('replicaof', '127.0.0.1', portOf(master))
  const proxy = await startProxy({ teardown: () => {} }, '127.0.0.1', Number(portOf(master)))
  const replication = async (server: Sessions) => String(await server.call('info', 'replication'))
  const failOver = async () => {
    await master.call('config', 'set', 'repl-diskless-sync-delay', '0')
    // Ask the master, which takes a moment to notice that its replica is up to date.
    await waitUntil('the replica follows', async () => (await replication(master)).includes('state=online'))
    await master.call('failover', 'to', '127.0.0.1', portOf(replica))
    await waitUntil('the master is a replica', async () => (await replication(master)).includes('role:slave'))
    proxy.redirect(Number(portOf(replica)))
    ;[master, replica] = [replica, master]
  }
  return {
    env: { REDIS_HOST: '127.0.0.1', REDIS_PORT: `${proxy.port}` },
    failOver,
    flush: () => master.flush(),
    call: (command, ...args) => master.call(command, ...args),
    down: () => master.down(),
    up: () => master.up(),
    freeze: () => master.freeze(),
    thaw: () => master.thaw(),
    stop: async () => {
      await Promise.allSettled([master.down(), replica.down()])
      await proxy.cut()
    }
  }
}
