import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import { formatAddress, postgresAddress, redisAddresses } from '../lib/engine-addresses.ts'
import { buildApp } from '../app.ts'
import { type Config, engineVariables, isExternal, loadConfig } from '../config.ts'
import { type Engines, startEngines } from '../embedded/engines.ts'
import { cannotListen, findHosts } from './listen.ts'
import { openLog } from './log.ts'
import { migrateWhenReady } from '../plugins/postgres.ts'
import { shutdownSignal, exitSignal } from './signals.ts'
import { StartError } from '../lib/start-error.ts'
import { unlessAborted } from '../lib/wait-for.ts'

const log = await openLog()

const SHUTDOWN_TIMEOUT_MS = 25_000

let app: FastifyInstance | undefined
let engines: Engines | undefined
let isEnding = false

async function migrateOnly(config: Config): Promise<never> {
  if (!isExternal('postgres', config)) {
    throw new StartError(`${engineVariables.postgres.join(' or ')} must be set where MIGRATE is only`)
  }
  await migrateWhenReady(config, log, shutdownSignal).catch((error) => {
    if (!shutdownSignal.aborted) throw error
    log.info(shutdownSignal.reason.message)
    process.exit(1) // A waiting job must not conclude that the tables exist.
  })
  process.exit(0)
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
  const [host = ''] = hosts
  const url = `http://${formatAddress({ host: host === '::' || host === '0.0.0.0' ? '127.0.0.1' : host, port })}`
  log.info(readyMessage(config, url))
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

const limitShutdown = () =>
  setTimeout(() => {
    log.error(`graceful shutdown took longer than ${SHUTDOWN_TIMEOUT_MS / 1000} s: exiting at once`)
    process.exit(1)
  }, SHUTDOWN_TIMEOUT_MS)

/** Stops everything that was started, in order, and exits. */
async function end(code: number): Promise<never> {
  isEnding = true
  if (!shutdownSignal.aborted) limitShutdown()
  const hasServed = app?.server.listening === true
  // Closing an app that failed to start fails again for the same reason.
  await app?.close().catch((err) => {
    if (hasServed) log.error({ err }, 'graceful shutdown failed')
  })
  await engines?.stop()
  if (!hasServed) engines?.undo()
  process.exit(code)
}

shutdownSignal.addEventListener('abort', limitShutdown)
exitSignal.addEventListener('abort', () => {
  log.error(`${exitSignal.reason.signal} received again: exiting at once`)
  process.exit(1)
})
process.on('uncaughtException', (err) => {
  log.fatal({ err }, 'uncaught exception')
  if (isEnding) process.exit(1)
  void end(1)
})

try {
  shutdownSignal.throwIfAborted()
  const config = loadConfig(process.env)
  log.level = config.LOG_LEVEL
  if (config.MIGRATE === 'only') await migrateOnly(config)
  const { drain } = await start(config)
  await once(shutdownSignal, 'abort')
  log.info(shutdownSignal.reason.message)
  drain.hasBegun = true
  await sleep(config.SHUTDOWN_DELAY * 1000)
  await end(0)
} catch (error) {
  if (shutdownSignal.aborted) log.info(shutdownSignal.reason.message)
  else if (error instanceof StartError) log.fatal(error.message)
  else log.fatal({ err: error }, 'the start failed')
  await end(shutdownSignal.aborted ? 0 : 1)
}
