import { shutdownSignal } from './process/signals.ts'
import { pino } from 'pino'
import { formatAddress, postgresAddress, redisAddresses } from './lib/engine-addresses.ts'
import { engineVariables, isExternal, loadConfig } from './config.ts'
import { reach } from './lib/reach.ts'
import { StartError } from './lib/start-error.ts'
import { waitFor } from './lib/wait-for.ts'

// For init containers: `node dist/src/wait.js postgres` (or redis) waits until something accepts connections
// where the service would connect. It has no timeout.

const log = pino({ timestamp: pino.stdTimeFunctions.isoTime }, pino.destination({ sync: true }))
const TIMEOUT_MS = 2000
const PAUSE_MS = 1000

try {
  const [, , engine = ''] = process.argv
  if (engine !== 'postgres' && engine !== 'redis') {
    throw new StartError(`wait.js waits for postgres or redis, not for ${engine}`)
  }
  const config = loadConfig(process.env)
  if (!isExternal(engine, config)) throw new StartError(`${engineVariables[engine].join(' or ')} must be set`)
  const addresses = engine === 'postgres' ? [postgresAddress(config)] : redisAddresses(config)
  const what = `${engine === 'postgres' ? 'PostgreSQL' : 'Redis'} at ${addresses.map(formatAddress).join(' or ')}`
  await waitFor(
    what,
    Infinity,
    log,
    () =>
      Promise.any(addresses.map((address) => reach(address, { timeoutMs: TIMEOUT_MS }))).catch(
        (error: AggregateError) => {
          throw error.errors[0]
        }
      ),
    { pauseMs: PAUSE_MS, signal: shutdownSignal }
  )
  log.info(`${what} answers`)
  process.exit(0)
} catch (error) {
  if (error instanceof StartError || shutdownSignal.aborted) log.fatal((error as Error).message)
  else log.fatal({ err: error }, 'uncaught exception')
  process.exit(1)
}
