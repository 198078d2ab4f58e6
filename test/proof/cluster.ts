import { randomBytes } from 'node:crypto'
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { kill } from 'node:process'
import { Redis } from 'ioredis'
import pg from 'pg'
import { startPostgres } from '../../src/embedded/postgres.ts'
import { stopWithParent, freePort, canRun, startProgram } from '../../src/embedded/process.ts'
import { startRedis } from '../../src/embedded/redis.ts'
import { startProxy } from '../helpers/proxy.ts'

const quiet = { info: () => {}, warn: () => {}, error: () => {} }

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

/** Makes and starts the PostgreSQL that npm installed, as the service itself does. */
export async function startDatabase(dataDir: string): Promise<Postgres> {
  let { settings, stop } = await startPostgres(dataDir, passwordFile(dataDir, 'postgres'), quiet)
  const env = Object.fromEntries(Object.entries(settings).map(([name, value]) => [name, `${value}`]))
  const cluster = join(dataDir, 'postgres')
  const connect = async () => {
    const client = new pg.Client({
      host: env['POSTGRES_HOST'],
      port: Number(env['POSTGRES_PORT']),
      database: env['POSTGRES_DB'],
      user: env['POSTGRES_USER'],
      password: env['POSTGRES_PASSWORD']
    }).on('error', () => {})
    await client.connect()
    return client
  }
  const postmaster = () => parseInt(readFileSync(join(cluster, 'postmaster.pid'), 'utf8'))
  const [program = '', ...args] = readFileSync(join(cluster, 'postmaster.opts'), 'utf8')
    .trim()
    .replace(/"$/, '')
    .split(/"? "/)
  return {
    env,
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

/** Runs what follows as the user that the launcher gave the files to: PostgreSQL refuses to be root. */
function whoOwns(path: string): string[] {
  const { uid } = statSync(path)
  if (process.getuid?.() !== 0) return []
  return uid === 0
    ? ['unshare', '--user', '--map-user=65534', '--map-group=65534']
    : ['setpriv', `--reuid=${uid}`, `--regid=${uid}`, '--clear-groups']
}

/**
 * Starts a Redis that keeps its keys; where none is installed, the store that the service has instead, which
 * is cut off rather than stopped.
 */
export async function startSessions(dataDir: string): Promise<Sessions> {
  const program = ['redis-server', 'valkey-server'].find((name) => canRun(name, '--version'))
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
