import { shutdownSignal } from './process/signals.ts'
import { pino } from 'pino'
import { type Address, formatAddress, postgresAddress, redisAddresses } from './lib/engine-addresses.ts'
import { engineVariables, isExternal, loadConfig } from './config.ts'
import { reach } from './lib/reach.ts'
import { StartError } from './lib/start-error.ts'
import { waitFor } from './lib/wait-for.ts'

// For init containers: `node dist/src/wait.js postgres` (or redis) waits until something accepts connections
// where the service would connect. It has no timeout.

const log = pino({ timestamp: pino.stdTimeFunctions.isoTime }, pino.destination({ sync: true }))
const TIMEOUT_MS = 2000
const PAUSE_MS = 1000

/** Resolves when one of the addresses accepts connections; then the others are given up. */
async function reachAny(addresses: Address[]): Promise<void> {
  const isOver = new AbortController()
  const signal = AbortSignal.any([shutdownSignal, isOver.signal])
  const attempts = addresses.map((address) => reach(address, { timeoutMs: TIMEOUT_MS, signal }))
  try {
    await Promise.any(attempts)
  } catch (error) {
    throw (error as AggregateError).errors[0]
  } finally {
    isOver.abort()
  }
}

try {
  const [, , engine = ''] = process.argv
  if (engine !== 'postgres' && engine !== 'redis') {
    throw new StartError(`wait.js waits for postgres or redis, not for ${engine}`)
  }
  const config = loadConfig(process.env)
  if (!isExternal(engine, config)) throw new StartError(`${engineVariables[engine].join(' or ')} must be set`)
  const addresses = engine === 'postgres' ? [postgresAddress(config)] : redisAddresses(config)
  const name = engine === 'postgres' ? 'PostgreSQL' : 'Redis'
  const what = `${name} at ${addresses.map(formatAddress).join(' or ')}`
  await waitFor(what, Infinity, log, () => reachAny(addresses), { pauseMs: PAUSE_MS, signal: shutdownSignal })
  log.info(`${what} answers`)
} catch (error) {
  if (error instanceof StartError || shutdownSignal.aborted) log.fatal((error as Error).message)
  else log.fatal({ err: error }, 'uncaught exception')
  process.exitCode = 1
}
