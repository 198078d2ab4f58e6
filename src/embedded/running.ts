import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { type Config, isExternal } from '../config.ts'
import { StartError } from '../lib/start-error.ts'

/** The file that holds the port of the embedded session store while it runs. */
export const redisPortFile = (dataDir: string) => join(dataDir, 'redis.port')

// https://www.postgresql.org/docs/current/storage-file-layout.html: the fourth line of postmaster.pid.
const postgresPort = (dataDir: string) =>
  Number(readFileSync(join(dataDir, 'postgres/postmaster.pid'), 'utf8').split('\n')[3])

/**
 * Finds the embedded engines of a running service by its `DATA_DIR`.
 * @returns the settings to connect to them; empty if both engines are external
 * @throws {StartError} if no service is running there, or this user may not read the folder
 */
export function findEngines(config: Config): Partial<Config> {
  const dataDir = resolve(config.DATA_DIR)
  try {
    return {
      ...(!isExternal('postgres', config) && {
        POSTGRES_HOST: '127.0.0.1',
        POSTGRES_PORT: postgresPort(dataDir),
        POSTGRES_DB: 'postgres',
        POSTGRES_USER: 'chat',
        POSTGRES_PASSWORD: readFileSync(join(dataDir, 'password'), 'utf8')
      }),
      ...(!isExternal('redis', config) && {
        REDIS_HOST: '127.0.0.1',
        REDIS_PORT: Number(readFileSync(redisPortFile(dataDir), 'utf8')),
        REDIS_PASSWORD: readFileSync(join(dataDir, 'password'), 'utf8'),
        REDIS_DB: 0
      })
    }
  } catch (cause) {
    const isDenied = cause instanceof Error && 'code' in cause && cause.code === 'EACCES'
    throw new StartError(
      isDenied
        ? `this user may not read the embedded engines' folder ${dataDir}: ` +
            'run this as the user of the service'
        : `no service with embedded engines runs in ${dataDir}: ` +
            'start it, or set POSTGRES_HOST and REDIS_HOST',
      { cause }
    )
  }
}
