import { once } from 'node:events'
import {
  appendFileSync,
  closeSync,
  existsSync,
  fstatSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync
} from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { deserialize, serialize } from 'node:v8'
import { Redis } from 'ioredis'
import type { Log } from '../lib/logger.ts'
import { StartError } from '../lib/start-error.ts'
import { stopWithParent, type Engine, freePort, canRun, startProgram } from './process.ts'
import { redisPortFile } from './running.ts'

/**
 * Starts a session store on a free loopback port, with its data in `dataDir`: a Redis or Valkey server if one
 * is on the PATH, otherwise a store in this process.
 * @param signal cancels the start, which rejects with the signal's reason once everything has stopped
 * @throws {StartError}
 */
export async function startRedis(
  dataDir: string,
  passwordFile: string,
  log: Log,
  signal?: AbortSignal
): Promise<Engine> {
  const address = { host: '127.0.0.1', port: await freePort(), password: readFileSync(passwordFile, 'utf8') }
  const program = ['redis-server', 'valkey-server'].find((name) => canRun(name, '--version'))
  const portFile = redisPortFile(dataDir)
  // Before the store starts, because this can fail, and the store would go on running.
  writeFileSync(portFile, `${address.port}`, { mode: 0o600 })
  const stop = program
    ? await startServer(program, dataDir, address, log, signal)
    : await startStore(dataDir, address, log)
  return {
    settings: {
      REDIS_HOST: address.host,
      REDIS_PORT: address.port,
      REDIS_PASSWORD: address.password,
      REDIS_DB: 0
    },
    stop: async () => {
      await stop()
      rmSync(portFile, { force: true })
    }
  }
}

interface Address {
  host: string
  port: number
  password: string
}

async function startServer(
  program: string,
  dataDir: string,
  { host, port, password }: Address,
  log: Log,
  signal?: AbortSignal
) {
  const dir = join(dataDir, 'redis')
  mkdirSync(dir, { recursive: true, mode: 0o700 })
  const input = `bind ${host}\nport ${port}\nrequirepass ${password}\nappendonly yes\nsave ""\n`
  const probe = new Redis({ host, port, password, retryStrategy: () => 20 }).on('error', () => {})
  const stop = await startProgram(
    [...stopWithParent(), program, '-', '--dir', dir],
    { name: program, logFile: join(dataDir, 'redis.log'), input, ready: () => probe.ping() },
    log,
    signal
  ).finally(() => probe.disconnect())
  log.info(`embedded ${program} runs on ${host}:${port}, its data is in ${dir}`)
  return stop
}

/**
 * A reimplementation of Redis in this process. Each change is written to a journal before it is acknowledged,
 * so a crash logs nobody out.
 */
async function startStore(dataDir: string, { host, port, password }: Address, log: Log) {
  const { attachSession, createRedisCommandExecutor, RedisServerState, SocketConnectionTransport } =
    await import('js-redis-server/core').catch((cause) => {
      throw new StartError(
        'REDIS_HOST is not set, and neither redis-server nor js-redis-server is installed: ' +
          'set REDIS_HOST, or run `npm ci --include=dev`',
        { cause }
      )
    })
  const state = new RedisServerState({ databaseCount: 1, requirepass: password })
  const database = state.getDatabase(0)
  const journal = join(dataDir, 'sessions.journal')

  const keys = new Map<string, Buffer>()
  let damaged = 0
  for (const line of existsSync(journal) ? readFileSync(journal, 'utf8').split('\n').slice(0, -1) : []) {
    try {
      const [key, value, expiration] = deserialize(Buffer.from(line, 'base64'))
      if (value === null) database.delete(key)
      else database.set(key, value, { expiresAt: expiration.expiresAt })
      keys.set(key.toString('base64'), key)
    } catch {
      damaged++
    }
  }
  if (damaged > 0) {
    log.warn(`${damaged} damaged line(s) of ${journal} were skipped, so some users may have to log in again`)
  }
  const entry = (key: Buffer) =>
    `${serialize([key, database.get(key), database.getExpiration(key)]).toString('base64')}\n`
  const live = [...keys.values()].filter((key) => database.get(key) !== null)
  writeFileSync(`${journal}.new`, live.map(entry).join(''), { mode: 0o600 })
  renameSync(`${journal}.new`, journal)
  const file = openSync(journal, 'a')
  database.mutations.subscribe((change) => {
    if (change.type === 'flush') return ftruncateSync(file)
    const { size } = fstatSync(file)
    try {
      appendFileSync(file, entry(change.key))
    } catch (error) {
      // On a full disk, part of a line may have been written, to which the next one would be added.
      ftruncateSync(file, size)
      throw error
    }
  })

  const executor = createRedisCommandExecutor()
  // The library's own server would listen on all addresses.
  const server = createServer((socket) => {
    attachSession(new SocketConnectionTransport(socket), { state, executor })
  })
  await once(server.listen(port, host), 'listening')
  log.warn(
    'sessions are kept by js-redis-server, a reimplementation of Redis for development, ' +
      `on ${host}:${port}, its data is in ${journal}; ` +
      'install redis-server or set REDIS_HOST to use the real one'
  )
  return async () => {
    server.close()
    await once(server, 'close')
    state.close()
    closeSync(file)
  }
}
