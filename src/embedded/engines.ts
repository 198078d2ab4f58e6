import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, mkdirSync, realpathSync, statSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { type Config, isExternal } from '../config.ts'
import { type Log, StartError } from '../start.ts'
import { startPostgres } from './postgres.ts'
import type { Engine } from './process.ts'
import { startRedis } from './redis.ts'

/** Starts the engines that the configuration leads to no server for, on loopback, with data and a random password in `DATA_DIR`. @throws {StartError} */
export async function startEngines (config: Config, log: Log): Promise<Engine> {
  const starts = [...(isExternal('postgres', config) ? [] : [startPostgres]), ...(isExternal('redis', config) ? [] : [startRedis])]
  if (starts.length === 0) return { settings: {}, stop: async () => {} }
  mkdirSync(config.DATA_DIR, { recursive: true, mode: 0o700 })
  const dataDir = realpathSync(config.DATA_DIR)
  await lock(dataDir)
  const passwordFile = join(dataDir, 'password')
  if (!existsSync(passwordFile) || statSync(passwordFile).size === 0) writeFileSync(passwordFile, randomBytes(16).toString('hex'), { mode: 0o600 })
  const engines = await Promise.all(starts.map((start) => start(dataDir, passwordFile, log)))
  return {
    settings: Object.assign({}, ...engines.map((engine) => engine.settings)),
    stop: async () => { await Promise.all(engines.map((engine) => engine.stop())) }
  }
}

/** Holds a folder until this process ends, however it ends: by an abstract socket (Linux alone has them) that is named after it. */
async function lock (folder: string): Promise<void> {
  if (process.platform !== 'linux') return
  const name = `\0chat-backend-${createHash('sha256').update(folder).digest('hex').slice(0, 32)}`
  await once(createServer().listen(name).unref(), 'listening').catch((cause) => {
    throw new StartError(`another chat-backend is using the data in ${folder}: stop it, or set DATA_DIR to another folder`, { cause })
  })
}
