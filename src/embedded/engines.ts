import { type Config, isExternal } from '../config.ts'
import type { Log } from '../lib/logger.ts'
import { type DataDir, openDataDir, unusable } from './data-dir.ts'
import { startPostgres } from './postgres.ts'
import type { Engine } from './process.ts'
import { startRedis } from './redis.ts'

export interface Engines extends Engine {
  /**
   * Undoes a failed start, after `stop`: removes what it created in `DATA_DIR`.
   */
  undo: () => void
}

/**
 * Starts the engines for which no server is configured, on loopback, with their data and a random password in
 * `DATA_DIR`. A failed start leaves nothing behind.
 * @param signal cancels the start, which rejects with the signal's reason
 * @throws {StartError}
 */
export async function startEngines(config: Config, log: Log, signal?: AbortSignal): Promise<Engines> {
  const starts = [
    ...(isExternal('postgres', config) ? [] : [startPostgres]),
    ...(isExternal('redis', config) ? [] : [startRedis])
  ]
  if (starts.length === 0) return { settings: {}, stop: async () => {}, undo: () => {} }
  try {
    const dataDir = await openDataDir(config.DATA_DIR)
    return await startAll(starts, dataDir, log, signal)
  } catch (error) {
    throw isSystemError(error) ? unusable(config.DATA_DIR, error) : error
  }
}

const isSystemError = (error: unknown): error is NodeJS.ErrnoException =>
  error instanceof Error && 'syscall' in error

async function startAll(
  starts: (typeof startPostgres)[],
  { path, passwordFile, undo }: DataDir,
  log: Log,
  signal?: AbortSignal
): Promise<Engines> {
  // When one fails, do not wait for the others.
  const givenUp = new AbortController()
  const giveUp = () => givenUp.abort(signal?.reason)
  if (signal?.aborted) giveUp()
  signal?.addEventListener('abort', giveUp, { once: true })
  const started = await Promise.allSettled(
    starts.map((start) =>
      start(path, passwordFile, log, givenUp.signal).catch((error) => {
        givenUp.abort(error)
        throw error
      })
    )
  )
  signal?.removeEventListener('abort', giveUp)

  const engines = started.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []))
  const stop = async () => {
    await Promise.all(engines.map((engine) => engine.stop()))
  }
  if (givenUp.signal.aborted) {
    await stop()
    undo()
    throw givenUp.signal.reason
  }
  return { settings: Object.assign({}, ...engines.map((engine) => engine.settings)), stop, undo }
}
