import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { Client, type ClientBase, DatabaseError, type Pool, type PoolClient, type QueryResultRow } from 'pg'
import { TimeoutError, withTimeout } from '../lib/timeout.ts'
import { DatabaseUnavailable } from '../errors/catalogue.ts'
import { channels, traced } from '../telemetry/tracing.ts'

// From the wait for a free connection to the last row.
const TIMEOUT_MS = 2500
/** From sending a statement to its last row: a moment longer than the server's own `statement_timeout`. */
const STATEMENT_MS = 2250
/** How long a server may take to end a statement that it was told to cancel. */
const CANCEL_MS = 1000
/** How often a server is asked whether it has ended such a statement at last. */
const RECHECK_MS = 500

/** In SQL, whether the server takes no writes: a standby, or a primary that was fenced off. */
export const IS_READ_ONLY = "(current_setting('transaction_read_only') = 'on')"

/**
 * A time in SQL as milliseconds since 1970, whatever `DateStyle` is, and within the years that RFC 3339 has.
 */
export const milliseconds = (time: string) => `floor(extract(epoch from
  least(greatest(${time}, '0001-01-01 00:00:00+00'), '9999-12-31 23:59:59.999+00')) * 1000)::bigint`

/**
 * Resolves to the rows of one statement; rejects with `DatabaseUnavailable` when no working PostgreSQL
 * answers, else with the statement's own error.
 */
export type Query = <Row extends QueryResultRow>(sql: string, values?: unknown[]) => Promise<Row[]>

// SQLSTATEs of a server that cannot work now but may later: connection, authorization, resources, object
// state and locks, operator, system, read-only, no database; and before a migration is complete: no rights on
// new tables, and no tables, columns or functions yet.
// https://www.postgresql.org/docs/current/errcodes-appendix.html
const UNAVAILABLE = /^(08|28|53|55|57|58|25006|3D000|42501|42P01|42703|42883)/

const named = (error: unknown) =>
  error instanceof DatabaseError && !UNAVAILABLE.test(error.code ?? '')
    ? error
    : new DatabaseUnavailable({ cause: error })

// A statement with a name is parsed and planned once for each connection.
const names = new Map<string, string>()
const statement = (text: string, values: unknown[]) => {
  const name = names.get(text) ?? `s${names.size + 1}`
  names.set(text, name)
  return { name, text, values }
}

/** Makes a `Query` on one connection, or on any of a pool. */
export const createQuery =
  (connection: Pick<Pool | ClientBase, 'query'>): Query =>
  async <Row extends QueryResultRow>(sql: string, values?: unknown[]) => {
    try {
      return (
        await withTimeout(
          TIMEOUT_MS,
          traced(channels.sql, { text: sql }, () =>
            values ? connection.query<Row>(statement(sql, values)) : connection.query<Row>(sql)
          )
        )
      ).rows
    } catch (error) {
      throw named(error)
    }
  }

/**
 * Closes a connection at once. `end()` alone waits until the server closes it too, which one that hangs never
 * does.
 */
export function hangUp(client: Client): void {
  void client.end()
  client.connection.stream.destroy()
}

/** What pg knows of a connection, and its own `cancel` needs, but its types do not tell. */
type Cancellable = PoolClient & Record<'port' | 'processID' | 'secretKey', number> & { host: string }
const cancellable = (client: PoolClient) => client as Cancellable

/**
 * Asks the server to cancel what it does for this connection:
 * https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-CANCELING-REQUESTS
 */
function cancel(client: PoolClient): void {
  const { host, port, processID, secretKey } = cancellable(client)
  const request = Buffer.alloc(16)
  for (const [index, value] of [request.length, 80877102, processID, secretKey].entries()) {
    request.writeInt32BE(value, index * 4)
  }
  const socket = host.startsWith('/') ? connect(`${host}/.s.PGSQL.${port}`) : connect(port, host)
  socket
    .on('error', () => {}) // Then it is not cancelled.
    .setTimeout(CANCEL_MS, () => socket.destroy())
    .end(request)
}

// Of those processes, asks which still work, and ends them: a request to cancel may not have reached them.
// What began a moment ago is not what was given up, but another process with the same number.
const END_PROCESSES = `
  select pid, case when query_start < clock_timestamp() - interval '2 s' then pg_terminate_backend(pid) end
  from pg_stat_activity
  where pid = any ($1) and usename = current_user and state is distinct from 'idle'`

/** A connection that was given up: its server process, and how to let go of it. */
interface Abandoned {
  processID: number
  letGo: () => void
}

/**
 * The connections of a pool, which can be replaced all at once: after a failover they may lead to a server
 * that is none any more.
 *
 * A connection that is given up counts as one of the pool's until the server is done with it. Otherwise each
 * retry would leave one more server process behind that waits, such as for synchronous replication, which no
 * timeout of the server ends. So there are never more than the pool's `max`, and one more that looks after
 * them.
 */
export class Connections {
  #pool: Pool
  #open = new Set<PoolClient>()
  #retired = new WeakSet<PoolClient>()
  #abandoned = new Set<Abandoned>()
  #stop = new AbortController()

  constructor(pool: Pool) {
    this.#pool = pool
    pool.on('connect', (client) => this.#open.add(client))
    pool.on('remove', (client) => this.#open.delete(client))
  }

  /** Takes a connection, which the caller releases. @throws {DatabaseUnavailable} */
  async acquire(): Promise<PoolClient> {
    for (;;) {
      const client = await this.#pool.connect().catch((error: unknown) => {
        throw named(error)
      })
      if (!this.#retired.has(client)) return client
      client.release(true)
    }
  }

  /**
   * Waits for statements that were sent on a connection, and gives it back to the pool. When one of them gave
   * no answer, the other connections are replaced as well, because they lead to the same server.
   */
  async settle<First, Second>(
    client: PoolClient,
    statements: [Promise<First>, Promise<Second>]
  ): Promise<[PromiseSettledResult<First>, PromiseSettledResult<Second>]>
  async settle<Only>(client: PoolClient, statements: [Promise<Only>]): Promise<[PromiseSettledResult<Only>]>
  async settle(client: PoolClient, statements: Promise<unknown>[]): Promise<PromiseSettledResult<unknown>[]> {
    const outcomes = await Promise.allSettled(statements.map((it) => withTimeout(STATEMENT_MS, it)))
    const failures: unknown[] = outcomes.flatMap((it) => (it.status === 'rejected' ? [it.reason] : []))
    if (failures.some((error) => !(error instanceof DatabaseError))) this.retire()
    if (failures.some((error) => error instanceof TimeoutError)) void this.#abandon(client, statements)
    else client.release(failures.length > 0)
    return outcomes
  }

  /** Gives up a connection without an answer, and lets go of it when its server is done with it. */
  async #abandon(client: PoolClient, statements: Promise<unknown>[]): Promise<void> {
    cancel(client)
    await new Promise<void>((resolve) => {
      const abandoned = { processID: cancellable(client).processID, letGo: resolve }
      void Promise.allSettled(statements).then(() => {
        this.#abandoned.delete(abandoned)
        resolve()
      })
      this.#abandoned.add(abandoned)
      if (this.#stop.signal.aborted) this.stop()
      else if (this.#abandoned.size === 1) void this.#endAbandoned()
    })
    client.connection.stream.destroy() // `end()` would wait for the answers.
    client.release(true)
  }

  async #endAbandoned(): Promise<void> {
    for (let waitMs = CANCEL_MS; this.#abandoned.size > 0; waitMs = RECHECK_MS) {
      await sleep(waitMs, undefined, { signal: this.#stop.signal }).catch(() => {})
      if (this.#stop.signal.aborted) return
      const asked = [...this.#abandoned]
      // A server that cannot be reached has no room for new connections either.
      const busy = await this.#endProcesses(asked).catch(() => undefined)
      if (busy) this.#letGo(asked.filter(({ processID }) => !busy.has(processID)))
    }
  }

  /** @returns those that still work, on the server that is reached now */
  async #endProcesses(abandoned: Abandoned[]): Promise<Set<number>> {
    const client = new Client(this.#pool.options)
    client.on('error', () => {}) // A query reports it as well.
    try {
      await client.connect()
      const asked = client.query<{ pid: number }>(END_PROCESSES, [
        abandoned.map(({ processID }) => processID)
      ])
      return new Set((await withTimeout(STATEMENT_MS, asked)).rows.map(({ pid }) => pid))
    } finally {
      hangUp(client)
    }
  }

  #letGo(abandoned: Iterable<Abandoned>): void {
    for (const one of abandoned) {
      this.#abandoned.delete(one)
      one.letGo()
    }
  }

  /** Lets go of all connections that were given up, now and from now on, so that the pool can end. */
  stop(): void {
    this.#stop.abort()
    this.#letGo(this.#abandoned)
  }

  /** Closes the connections that the pool has ended but the server has not closed. */
  hangUp(): void {
    for (const client of this.#open) hangUp(client)
  }

  /** Has every connection of now closed before it is used again. */
  retire(): void {
    for (const client of this.#open) this.#retired.add(client)
  }
}

/** Makes a `Query` that takes a connection for each statement. */
export const createPoolQuery = (connections: Connections): Query => {
  const run = async <Row extends QueryResultRow>(sql: string, values?: unknown[]) => {
    const client = await connections.acquire()
    const [outcome] = await connections.settle(client, [
      values ? client.query<Row>(statement(sql, values)) : client.query<Row>(sql)
    ])
    if (outcome.status === 'rejected') throw outcome.reason
    return outcome.value.rows
  }
  return async (sql, values) => {
    try {
      return await withTimeout(
        TIMEOUT_MS,
        traced(channels.sql, { text: sql }, () => run(sql, values))
      )
    } catch (error) {
      throw error instanceof DatabaseUnavailable ? error : named(error)
    }
  }
}

/**
 * Runs two statements in one round trip, each in a transaction of its own; the second sees what the first has
 * committed.
 * @returns the rows of the first, and of the second unless that one failed
 * @throws as a `Query` does, when the first failed
 */
export const createPipeline =
  (connections: Connections) =>
  async <First extends QueryResultRow, Second extends QueryResultRow>(
    first: [sql: string, values: unknown[]],
    second: [sql: string, values: unknown[]]
  ): Promise<[First[], PromiseSettledResult<Second[]>]> => {
    const client = await connections.acquire()
    const { stream } = client.connection
    stream.cork() // In one packet: to send costs more than to write.
    const both = connections.settle(client, [
      traced(channels.sql, { text: first[0] }, () => client.query<First>(statement(...first))),
      traced(channels.sql, { text: second[0] }, () => client.query<Second>(statement(...second)))
    ])
    stream.uncork()
    const [done, read] = await both
    if (done.status === 'rejected') throw named(done.reason)
    return [done.value.rows, read.status === 'fulfilled' ? { ...read, value: read.value.rows } : read]
  }
export type Pipeline = ReturnType<typeof createPipeline>
