import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import { formatAddress, postgresAddress, redisAddresses } from '../lib/engine-addresses.ts'
import { buildApp } from '../app.ts'
import { type Config, engineVariables, isExternal, loadConfig } from '../config.ts'
import { type Engines, startEngines } from '../embedded/engines.ts'
import { letYoungGenerationGrow } from './heap.ts'
import { cannotListen, findHosts } from './listen.ts'
import { openLog } from './log.ts'
import { migrateWhenReady } from '../plugins/postgres.ts'
import { exitSignal, restoreDefaultActions, shutdownSignal } from './signals.ts'
import { StartError } from '../lib/start-error.ts'
import { unlessAborted } from '../lib/wait-for.ts'

const log = await openLog()

const SHUTDOWN_TIMEOUT_MS = 25_000
/**
 * How long something may stay open once everything is closed: a DNS lookup, which cannot be cancelled, or a
 * connection to a Sentinel that hangs, which ioredis closes after up to 4 s.
 */
const LEFTOVER_TIMEOUT_MS = 5000

let app: FastifyInstance | undefined
let engines: Engines | undefined
let ending: Promise<void> | undefined
let shutdownTimer: NodeJS.Timeout | undefined

async function migrateOnly(config: Config): Promise<void> {
  if (!isExternal('postgres', config)) {
    throw new StartError(`${engineVariables.postgres.join(' or ')} must be set when MIGRATE is only`)
  }
  await migrateWhenReady(config, log, shutdownSignal)
}

/**
 * Starts everything, and resolves when the service listens.
 * @throws {Signalled} if the process is told to stop meanwhile
 */
async function start(config: Config): Promise<FastifyInstance> {
  const hosts = await findHosts(config)
  engines = await startEngines(config, log, shutdownSignal)
  app = buildApp({ ...config, ...engines.settings }, log, shutdownSignal)
  await unlessAborted(shutdownSignal, app.ready())
  const port = await unlessAborted(shutdownSignal, app.listenOn(hosts, config.HTTP_PORT)).catch(
    (error: NodeJS.ErrnoException) => {
      const isAddress = error.syscall === 'listen' || error.syscall === 'getaddrinfo'
      throw isAddress ? cannotListen(hosts.join(), config.HTTP_PORT, error) : error
    }
  )
  letYoungGenerationGrow()
  const [host = ''] = hosts
  const reachable = host === '::' || host === '0.0.0.0' ? '127.0.0.1' : host
  log.info(readyMessage(config, `http://${formatAddress({ host: reachable, port })}`))
  return app
}

/** What runs, where, and what to do next: three lines for a person at a terminal, otherwise one. */
function readyMessage(config: Config, url: string): string {
  const register =
    "curl -H 'content-type: application/json' " +
    `-d '{"nickname":"alice","password":"correct horse"}' ${url}/api/register`
  const next = `${config.WEB_CLIENT === 'on' ? 'open it in a browser, or ' : ''}register: ${register}`
  if (!process.stdout.isTTY) return `the chat is ready at ${url}; ${next}`
  const embedded = `embedded, with its data in ${config.DATA_DIR}`
  const postgres = isExternal('postgres', config) ? formatAddress(postgresAddress(config)) : embedded
  const redis = isExternal('redis', config)
    ? redisAddresses(config).map(formatAddress).join(' or ')
    : embedded
  return [
    `the chat is ready at ${url}; Ctrl-C stops it`,
    `PostgreSQL: ${postgres}; Redis: ${redis}`,
    `next: ${next}`
  ].join('\n')
}

function limitShutdown(): void {
  shutdownTimer ??= setTimeout(() => {
    exitImmediately(1, `graceful shutdown took longer than ${SHUTDOWN_TIMEOUT_MS / 1000} s`)
  }, SHUTDOWN_TIMEOUT_MS)
}

/**
 * Exits without closing anything. `process.exit` can hang: it waits for V8's compiler threads, and they may
 * be waiting for a garbage collection on the main thread (https://github.com/nodejs/node/issues/54918).
 * Therefore it is the last resort, and the next signal ends the process by its default action.
 */
function exitImmediately(code: number, reason: string): never {
  restoreDefaultActions()
  log.error(`${reason}: exiting immediately`)
  process.exit(code)
}

/**
 * Stops everything that was started, in order. Nothing keeps the event loop running then, so Node exits by
 * itself, with this code or with that of an earlier call.
 */
function end(code: number): Promise<void> {
  return (ending ??= stop(code))
}

async function stop(code: number): Promise<void> {
  process.exitCode = code
  limitShutdown()
  const hasServed = app?.server.listening === true
  try {
    // Closing an app that failed to start fails again for the same reason.
    await app?.close().catch((err) => {
      if (hasServed) log.error({ err }, 'graceful shutdown failed')
    })
    await engines?.stop()
    if (!hasServed) engines?.undo()
  } finally {
    clearTimeout(shutdownTimer)
    setTimeout(() => {
      const open = process.getActiveResourcesInfo().join()
      exitImmediately(Number(process.exitCode), `not everything could be closed (${open})`)
    }, LEFTOVER_TIMEOUT_MS).unref()
  }
}

/** Runs the service until a signal ends it. @returns the exit code */
async function run(): Promise<number> {
  let config: Config | undefined
  try {
    shutdownSignal.throwIfAborted()
    const [, , argument] = process.argv
    if (argument !== undefined) {
      throw new StartError(
        `the service takes no arguments such as ${argument}, ` +
          'only environment variables: see docs/configuration.md'
      )
    }
    config = loadConfig(process.env)
    log.level = config.LOG_LEVEL
    if (config.MIGRATE === 'only') {
      await migrateOnly(config)
      return 0
    }
    const { drain } = await start(config)
    await once(shutdownSignal, 'abort')
    log.info(shutdownSignal.reason.message)
    drain.hasBegun = true
    // The server keeps the process alive, unless an exception closes it meanwhile.
    await sleep(config.SHUTDOWN_DELAY * 1000, undefined, { ref: false })
    return 0
  } catch (error) {
    if (shutdownSignal.aborted) {
      log.info(shutdownSignal.reason.message)
      // A waiting job must not conclude that the tables exist.
      return config?.MIGRATE === 'only' ? 1 : 0
    }
    if (error instanceof StartError) log.fatal(error.message)
    else log.fatal({ err: error }, 'startup failed')
    return 1
  }
}

shutdownSignal.addEventListener('abort', limitShutdown)
exitSignal.addEventListener('abort', () => exitImmediately(1, `${exitSignal.reason.signal} received again`))
process.on('uncaughtException', (err) => {
  log.fatal({ err }, 'uncaught exception')
  void end(1)
  process.exitCode = 1 // also when the end had begun with 0
})

await end(await run())
