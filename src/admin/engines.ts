import { Redis, type Cluster } from 'ioredis'
import pg from 'pg'
import { Sessions } from '../accounts/sessions.ts'
import type { Config } from '../config.ts'
import { createQuery, hangUp, type Query } from '../database/query.ts'
import { findEngines } from '../embedded/running.ts'
import { formatAddress, postgresAddress } from '../lib/engine-addresses.ts'
import { reasonOf } from '../lib/reason.ts'
import { withTimeout } from '../lib/timeout.ts'
import { StartError } from '../lib/start-error.ts'
import { connectionOptions } from '../plugins/postgres.ts'
import { createClient, whyNot } from '../plugins/redis.ts'

// A person at a terminal can wait longer than a request.
const CONNECT_TIMEOUT_MS = 5000

/** Connects to the engines of the service on demand. */
export class Engines {
  #config: Config
  #postgres: pg.Client | undefined
  #redis: Redis | Cluster | undefined

  /** @throws {StartError} if the engines are embedded and the service is not running */
  constructor(config: Config) {
    this.#config = { ...config, ...findEngines(config) }
  }

  /** Connects to PostgreSQL. @throws {StartError} */
  async database(): Promise<Query> {
    const client = new pg.Client({
      ...connectionOptions(this.#config),
      connectionTimeoutMillis: CONNECT_TIMEOUT_MS
    })
    client.on('error', () => {}) // Queries report it as well.
    this.#postgres = client
    await client.connect().catch((cause: unknown) => {
      const where = formatAddress(postgresAddress(this.#config))
      throw new StartError(`cannot connect to PostgreSQL at ${where}: ${reasonOf(cause)}`, { cause })
    })
    return createQuery(client)
  }

  /** Connects to Redis. @throws {StartError} */
  async sessions(): Promise<Sessions> {
    const { client, where } = createClient(this.#config, () => false)
    this.#redis = client
    let reason: string | undefined
    client.on('error', (error: Error) => {
      reason = whyNot(error, this.#config)
    })
    try {
      await withTimeout(CONNECT_TIMEOUT_MS, client.connect())
      // While connecting, the client only warns of a database number that is out of range.
      if (client instanceof Redis) await client.select(client.options.db ?? 0)
    } catch (error) {
      throw new StartError(`cannot connect to Redis at ${where}: ${reason ?? reasonOf(error)}`, {
        cause: error
      })
    }
    return new Sessions(client)
  }

  close(): void {
    this.#redis?.disconnect()
    if (this.#postgres) hangUp(this.#postgres)
  }
}
