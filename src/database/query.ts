import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  Client,
  type ClientBase,
  DatabaseError,
  type Pool,
  type PoolClient,
  type QueryConfig,
  type QueryResultRow
} from 'pg'
import { TimeoutError, withTimeout } from '../lib/timeout.ts'
import { DatabaseUnavailable } from '../errors/catalogue.ts'
import { channels, traced } from '../telemetry/tracing.ts'

// From waiting for a free connection to the last row.
const TIMEOUT_MS = 2500
// A statement that began late, because it waited for a connection, is cancelled after this time. It comes
// before the timeout, so that a change that is answered with 503 is not made later.
const CANCEL_AFTER_MS = 2250
/** From sending a statement to its last row: slightly longer than the server's own `statement_timeout`. */
const STATEMENT_MS = 2250
/** How long a server may take to end a statement after a cancel request. */
const CANCEL_MS = 1000
/** How often the server is then asked whether the statement has ended. */
const RECHECK_MS = 500

/** SQL condition: the server refuses writes, because it is a standby or a primary that was fenced off. */
export const IS_READ_ONLY = "(current_setting('transaction_read_only') = 'on')"

/**
 * SQL for a time in milliseconds since 1970, whatever `DateStyle` is, limited to the years of RFC 3339.
 */
export const milliseconds = (time: string) => `floor(extract(epoch from
  least(greatest(${time}, '0001-01-01 00:00:00+00'), '9999-12-31 23:59:59.999+00')) * 1000)::bigint`

/**
 * Runs a statement and resolves to its rows. Rejects with `DatabaseUnavailable` if no working PostgreSQL
 * answers, otherwise with the statement's own error.
 */
export type Query = <Row extends QueryResultRow>(sql: string, values?: unknown[]) => Promise<Row[]>

// SQLSTATEs of a server that cannot work now but may later: connection, authorization, resources, object
// state and locks, operator, system, read-only, no database; and before a migration is complete: no rights on
// new tables, and no tables, columns or functions yet.
// https://www.postgresql.org/docs/current/errcodes-appendix.html
const UNAVAILABLE = /^(08|28|53|55|57|58|25006|3D000|42501|42P01|42703|42883)/

function named(error: unknown): Error {
  if (!(error instanceof DatabaseError) || UNAVAILABLE.test(error.code ?? '')) {
    return new DatabaseUnavailable({ cause: error })
  }
  Error.captureStackTrace(error, named) // pg's stack ends at the socket. This one shows the caller.
  return error
}

// Statements with values are named, so that they are parsed and planned once per connection.
const names = new Map<string, string>()
function statement(text: string, values?: unknown[]): QueryConfig {
  if (values === undefined) return { text }
  const name = names.get(text) ?? `s${names.size + 1}`
  names.set(text, name)
  return { name, text, values }
}

/**
 * Sends a statement and resolves to its rows. It uses pg's callback, because for a promise, pg assigns a
 * function to a property. V8 allocates such functions in the old generation of its heap, where each keeps its
 * query and rows alive until the next full collection (`CheckAssigningFunctionLiteralToProperty` in
 * https://github.com/v8/v8/blob/main/src/parsing/parser.h).
 */
const send = <Row extends QueryResultRow>(
  connection: Pick<ClientBase, 'query'>,
  sql: string,
  values?: unknown[]
): Promise<Row[]> =>
  new Promise((resolve, reject) => {
    connection.query<Row>(statement(sql, values), (error: Error | undefined, result) => {
      if (error) reject(error)
      else resolve(result.rows)
    })
  })

/** Creates a `Query` for one connection, or for a pool. */
export const createQuery =
  (connection: Pick<ClientBase, 'query'>): Query =>
  async <Row extends QueryResultRow>(sql: string, values?: unknown[]) => {
    try {
      return await withTimeout(
        TIMEOUT_MS,
        traced(channels.sql, { text: sql }, () => send<Row>(connection, sql, values))
      )
    } catch (error) {
      throw named(error)
    }
  }

/**
 * Closes a connection immediately. `end()` alone waits for the server to close it too, and a server that
 * hangs never does.
 */
export function hangUp(client: Client): void {
  void client.end()
  client.connection.stream.destroy()
}

/** Fields of a connection that pg's own `cancel` uses, but that are missing in its types. */
type Cancellable = PoolClient & Record<'port' | 'processID' | 'secretKey', number> & { host: string }
const cancellable = (client: PoolClient) => client as Cancellable

/**
 * Asks the server to cancel the running statement of this connection:
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
    .on('error', () => {}) // Then the statement is not cancelled.
    .setTimeout(CANCEL_MS, () => socket.destroy())
    .end(request)
}

// Finds which of these processes are still working, and terminates them, because the cancel request may not
// have reached them. A statement that began just now belongs to another process with the same number.
const END_PROCESSES = `
  select pid, case when query_start < clock_timestamp() - interval '2 s' then pg_terminate_backend(pid) end
  from pg_stat_activity
  where pid = any ($1) and usename = current_user and state is distinct from 'idle'`

/** An abandoned connection: its server process, and a function to let go of it. */
interface Abandoned {
  processID: number
  letGo: () => void
}

/**
 * The connections of a pool. They can all be replaced together, because after a failover they may lead to a
 * server that is no longer the primary.
 *
 * An abandoned connection counts towards the pool's `max` until the server is done with it. Otherwise each
 * retry would leave behind one more server process that waits, for example for synchronous replication, which
 * no timeout of the server ends. So there are never more than `max` connections, and one more that watches
 * the abandoned ones.
 */
export class PoolConnections {
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
   * Waits for the statements that were sent on a connection, and returns it to the pool. If one of them got
   * no answer, the other connections are replaced as well, because they lead to the same server.
   * @param cancelAfterMs asks the server then to cancel them
   */
  async settle<First, Second>(
    client: PoolClient,
    statements: [Promise<First>, Promise<Second>]
  ): Promise<[PromiseSettledResult<First>, PromiseSettledResult<Second>]>
  async settle<Only>(
    client: PoolClient,
    statements: [Promise<Only>],
    cancelAfterMs: number
  ): Promise<[PromiseSettledResult<Only>]>
  async settle(
    client: PoolClient,
    statements: Promise<unknown>[],
    cancelAfterMs = STATEMENT_MS
  ): Promise<PromiseSettledResult<unknown>[]> {
    let isCancelled = false
    const cancelOnce = () => {
      if (!isCancelled) cancel(client)
      isCancelled = true
    }
    const canceller = setTimeout(cancelOnce, cancelAfterMs)
    const outcomes = await Promise.allSettled(statements.map((it) => withTimeout(STATEMENT_MS, it)))
    clearTimeout(canceller)
    const failures: unknown[] = outcomes.flatMap((it) => (it.status === 'rejected' ? [it.reason] : []))
    if (failures.some((error) => !(error instanceof DatabaseError))) this.retire()
    if (failures.some((error) => error instanceof TimeoutError)) {
      cancelOnce()
      void this.#abandon(client, statements)
    } else {
      client.release(failures.length > 0 || isCancelled) // The next statement must not be cancelled.
    }
    // A commit that no standby has confirmed counts as a success on the server once its wait is cancelled.
    const isDoubtful = isCancelled && failures.length === 0
    return isDoubtful
      ? outcomes.map(() => ({ status: 'rejected', reason: new DatabaseUnavailable() }))
      : outcomes
  }

  /** Abandons a connection that got no answer, and lets go of it once the server is done with it. */
  async #abandon(client: PoolClient, statements: Promise<unknown>[]): Promise<void> {
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
      // If the server cannot be reached, the connections stay counted.
      const busy = await this.#endProcesses(asked).catch(() => undefined)
      if (busy) this.#letGo(asked.filter(({ processID }) => !busy.has(processID)))
    }
  }

  /** @returns the processes that are still working, on the server that answers now */
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

  /** Lets go of all abandoned connections, now and from now on, so that the pool can end. */
  stop(): void {
    this.#stop.abort()
    this.#letGo(this.#abandoned)
  }

  /** Closes the connections that the pool has ended but the server has not closed. */
  hangUp(): void {
    for (const client of this.#open) hangUp(client)
  }

  /** Closes every currently open connection before it would be used again. */
  retire(): void {
    for (const client of this.#open) this.#retired.add(client)
  }
}

/** Creates a `Query` that takes a connection from the pool for each statement. */
export const createPoolQuery = (connections: PoolConnections): Query => {
  const run = async <Row extends QueryResultRow>(sql: string, values?: unknown[]) => {
    const startedAt = performance.now()
    const client = await connections.acquire()
    const leftMs = CANCEL_AFTER_MS - (performance.now() - startedAt)
    if (leftMs <= 0) {
      client.release()
      throw new DatabaseUnavailable()
    }
    const [outcome] = await connections.settle(client, [send<Row>(client, sql, values)], leftMs)
    if (outcome.status === 'rejected') throw outcome.reason
    return outcome.value
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
 * Runs two statements in one round trip, each in its own transaction, so the second sees what the first has
 * committed.
 * @returns the rows of the first, and of the second unless that one failed
 * @throws as a `Query` does, when the first failed
 */
export const createPipeline =
  (connections: PoolConnections) =>
  async <First extends QueryResultRow, Second extends QueryResultRow>(
    first: [sql: string, values: unknown[]],
    second: [sql: string, values: unknown[]]
  ): Promise<[First[], PromiseSettledResult<Second[]>]> => {
    const client = await connections.acquire()
    const { stream } = client.connection
    // In one packet, which takes a fifth less CPU and a third less time: 23 and 64 µs instead of 29 and 98,
    // for two trivial statements on one machine.
    stream.cork()
    const both = connections.settle(client, [
      traced(channels.sql, { text: first[0] }, () => send<First>(client, ...first)),
      traced(channels.sql, { text: second[0] }, () => send<Second>(client, ...second))
    ])
    stream.uncork()
    const [done, read] = await both
    if (done.status === 'rejected') throw named(done.reason)
    return [done.value, read]
  }
export type Pipeline = ReturnType<typeof createPipeline>
