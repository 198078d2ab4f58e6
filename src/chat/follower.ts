import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { createQuery, hangUp, IS_READ_ONLY, type Query } from '../database/query.ts'
import { withTimeout } from '../lib/timeout.ts'
import type { Log } from '../lib/logger.ts'
import { reasonOf } from '../lib/reason.ts'
import { readLog } from './event-log.ts'
import { newestMessages } from './messages.ts'
import { TAIL_BYTES, TAIL_LENGTH, type Timeline } from './timeline.ts'

// Without a word from the database it is asked anyway, because the word may have been lost.
const POLL_MS = 1000
// A connection that gives no answer for longer is replaced, so that all is known 2 s after it happened.
const TIMEOUT_MS = 800
// After that the answer itself may be what takes long, because the rows are huge.
const SECOND_TIMEOUT_MS = 2250
const RECONNECT_MS = 100
const READ_ONLY_CHECK_MS = 900
const READ_ONLY = 'the server is read-only'

/**
 * Follows the log on a connection of its own, and keeps the Timeline at its end, for as long as the process
 * lives.
 */
export class Follower {
  #timeline: Timeline
  #options: pg.ClientConfig
  #log: Log
  #isInForce: () => boolean
  /** Told when a server that takes writes is followed again, after another one or none was. */
  onReconnected: () => void = () => {}
  #stop = new AbortController()
  #interrupt: (reason: Error) => void = () => {}
  #complaint: string | undefined
  #hasFailed = false
  #callers: (() => void)[] = []
  #announced = 0
  #askedAt = -Infinity
  #isSpared = false
  #isWoken = false
  #wake = () => {}
  #ended: Promise<void> | undefined

  /** @param isInForce whether every change of a message reaches the log, so that its end is all there is */
  constructor(timeline: Timeline, options: pg.ClientConfig, log: Log, isInForce: () => boolean = () => true) {
    this.#timeline = timeline
    this.#isInForce = isInForce
    this.#options = { ...options, application_name: 'chat-backend log' }
    this.#log = log
  }

  /** Resolves when it has reached the end of the log for the first time, or has failed to. */
  start(): Promise<void> {
    const started = this.caughtUp()
    this.#ended = this.#run()
    return started
  }

  async stop(): Promise<void> {
    this.#stop.abort()
    this.#interrupt(new Error('stopped'))
    await this.#ended
  }

  /**
   * Resolves when all that was committed before this call is in the Timeline, or when the log cannot be
   * followed now.
   */
  async caughtUp(): Promise<void> {
    // What was committed may be missing in a read that is under way, which therefore confirms nothing.
    if (this.#hasFailed) return this.#wakeUp()
    return new Promise((resolve) => {
      this.#callers.push(resolve)
      this.#wakeUp()
    })
  }

  /**
   * Leaves what is announced meanwhile to `work`, which reads the log itself, and looks for the rest when it
   * has settled.
   */
  async spare<Done>(work: () => Promise<Done>): Promise<Done> {
    this.#isSpared = true
    return work().finally(() => {
      this.#isSpared = false
      this.#followAnnounced()
    })
  }

  #followAnnounced(): void {
    if (!this.#isSpared && this.#announced > this.#timeline.seq) this.#wakeUp()
  }

  #wakeUp(): void {
    this.#isWoken = true
    this.#wake()
  }

  async #run(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      await this.#connectAndFollow().catch((error: unknown) => {
        const reason = reasonOf(error)
        if (!this.#stop.signal.aborted && reason !== this.#complaint) {
          this.#log.warn(`cannot follow the event log: ${reason}`)
        }
        this.#complaint = reason
      })
      this.#hasFailed = true
      this.#timeline.markStale()
      for (const resolve of this.#callers.splice(0)) resolve()
      await sleep(RECONNECT_MS, undefined, { signal: this.#stop.signal }).catch(() => {})
    }
  }

  async #connectAndFollow(): Promise<never> {
    const client = new pg.Client(this.#options)
    const lost = new Promise<never>((_resolve, reject) => {
      this.#interrupt = reject
      client.once('error', reject).once('end', () => reject(new Error('the connection was closed')))
    })
    lost.catch(() => {})
    client.on('error', () => {})
    client.on('notification', ({ payload }) => {
      this.#announced = Number(payload)
      this.#followAnnounced()
    })
    try {
      // A client that is ended while it connects never says how that went.
      await Promise.race([client.connect(), lost])
      await client.query('listen chat_event')
      const query = createQuery(client)
      let isReadOnly = await this.#asksReadOnly(query)
      for (let isFresh = true; ; isFresh = false) {
        this.#isWoken = false
        const callers = this.#callers.splice(0)
        await this.#read(query, isFresh, isReadOnly).finally(() => {
          for (const resolve of callers) resolve()
        })
        if (!isReadOnly) this.#noteSuccess()
        await this.#pause(lost)
        if (performance.now() - this.#askedAt > READ_ONLY_CHECK_MS) {
          isReadOnly = await this.#asksReadOnly(query)
          if (isReadOnly) throw new Error(READ_ONLY)
        }
      }
    } finally {
      hangUp(client)
    }
  }

  #noteSuccess(): void {
    if (this.#hasFailed) this.onReconnected()
    this.#hasFailed = false
    if (this.#complaint !== undefined) this.#log.info('following the event log again')
    this.#complaint = undefined
  }

  // After a failover, the old primary may still answer on this connection: as a standby, or with writes
  // forbidden.
  async #asksReadOnly(query: Query): Promise<boolean> {
    const [row] = await withTimeout(
      TIMEOUT_MS,
      query<{ isReadOnly: boolean }>(`select ${IS_READ_ONLY} as "isReadOnly"`)
    )
    this.#askedAt = performance.now()
    return row?.isReadOnly ?? true
  }

  async #pause(lost: Promise<never>): Promise<void> {
    if (this.#isWoken) return
    const woken = new Promise<void>((resolve) => {
      this.#wake = resolve
    })
    const poll = setTimeout(this.#wake, POLL_MS)
    await Promise.race([woken, lost]).finally(() => clearTimeout(poll))
  }

  /**
   * @param isFresh on a connection that has read nothing yet: only such a one is believed that the log has
   * gone back
   */
  async #read(query: Query, isFresh: boolean, isReadOnly: boolean): Promise<void> {
    for (let isMore = true; isMore;) {
      const from = this.#timeline.seq
      const timeoutMs = this.#hasFailed ? SECOND_TIMEOUT_MS : TIMEOUT_MS
      const { entries, hasNext } = await withTimeout(timeoutMs, readLog(query, from))
      isMore = hasNext
      if (this.#timeline.apply(from, entries)) continue
      const isConnected = entries[0]?.seq === from
      if (!isConnected && from > 0 && (!isFresh || isReadOnly)) {
        throw new Error(isReadOnly ? READ_ONLY : 'the log has gone back')
      }
      this.#timeline.load(await newestMessages(query, TAIL_LENGTH, TAIL_BYTES))
    }
    if (!this.#isInForce() || isReadOnly) this.#timeline.markStale()
    else if (!this.#hasFailed || !this.#isWoken) this.#timeline.markFresh()
  }
}
