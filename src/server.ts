import { setTimeout as sleep } from 'node:timers/promises'
import closeWithGrace from 'close-with-grace'
import type { FastifyInstance } from 'fastify'
import { pino } from 'pino'
import { buildApp } from './app.ts'
import { engineVariables, isExternal, loadConfig } from './config.ts'
import { type Engines, startEngines } from './embedded/engines.ts'
import { cannotListen, checkAddress } from './listen.ts'
import { migrateWhenReady } from './plugins/postgres.ts'
import { StartError } from './start.ts'

// On a terminal the log is for a person, where the package that does that is installed; everywhere else it is JSON.
const pretty = process.stdout.isTTY ? await import('pino-pretty').catch(() => undefined) : undefined
const log = pino({ timestamp: pino.stdTimeFunctions.isoTime }, pretty?.default({ sync: true, ignore: 'pid,hostname' }) ?? pino.destination({ sync: true }))

let app: FastifyInstance | undefined
let engines: Engines | undefined

try {
  const config = loadConfig(process.env)
  log.level = config.LOG_LEVEL
  if (config.MIGRATE === 'only') {
    if (!isExternal('postgres', config)) throw new StartError(`${engineVariables.postgres.join(' or ')} must be set where MIGRATE is only`)
    await migrateWhenReady(config, log)
    process.exit()
  }
  await checkAddress(config.HTTP_HOST, config.HTTP_PORT)
  engines = await startEngines(config, log)
  app = buildApp({ ...config, ...engines.settings }, log)
  closeWithGrace({ delay: 25_000, logger: log }, async ({ err, signal }) => {
    if (err) log.fatal({ err }, 'an error that nobody caught')
    else log.info(`shutting down after ${signal}`)
    if (app?.server.listening) { // before, it would wait for the engines
      app.drain.isBegun = true
      if (!err) await sleep(config.SHUTDOWN_DELAY * 1000)
      await app.close()
    }
    await engines?.stop()
  })
  const address = await app.listen({ host: config.HTTP_HOST, port: config.HTTP_PORT }).catch((error: NodeJS.ErrnoException) => {
    const isAddress = error.syscall === 'listen' || error.syscall === 'getaddrinfo'
    throw isAddress ? cannotListen(config.HTTP_HOST, config.HTTP_PORT, error) : error
  })
  const url = address.replace('0.0.0.0', '127.0.0.1')
  log.info(`the chat is ready at ${url}; ${config.WEB_CLIENT === 'on' ? 'open it in a browser, or ' : ''}join it by: curl -H 'content-type: application/json' ` +
    `-d '{"nickname":"alice","password":"correct horse"}' ${url}/api/register`)
} catch (error) {
  if (error instanceof StartError) log.fatal(error.message)
  else log.fatal({ err: error }, 'the start failed')
  await app?.close().catch(() => {}) // What could not start need not end well.
  await engines?.stop()
  engines?.undo()
  process.exit(1)
}
