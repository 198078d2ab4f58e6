import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { createQuery, hangUp, type Query } from '../database/query.ts'
import { TimeoutError, withTimeout } from '../lib/timeout.ts'
import type { Log } from '../lib/logger.ts'
import { reasonOf } from '../lib/reason.ts'
import { checkLog, type LogCheck, type LogEntry, type LogPage, readLog, resign } from './event-log.ts'
import type { LogChannel, SharedRoom } from './log-channel.ts'
import { newestMessages } from './messages.ts'
import { type Applied, TAIL_BYTES, TAIL_LENGTH, type Timeline } from './timeline.ts'

// Poll even without an announcement, because one can be lost. The interval varies, so that replicas that
// started together do not go on polling together.
const POLL_MS = { min: 800, max: 1000 }
// While another replica announces. Its heartbeat comes sooner than this, and postpones the poll.
const RELYING_POLL_MS = { min: 1200, max: 1500 }
// But not if this replica has not looked for itself for longer.
const UNCHECKED_MS = 1700
// A replica publishes what it has written at about the time of PostgreSQL's notification.
const GRACE_MS = 10
// How many publications may wait for one that comes before them. Each has 256 KiB at most.
const MAX_EARLY = 64
// How long a batch waits for what others wrote just before it, which is usually on its way.
const PREDECESSORS_MS = 20
// How long no batch waits after one has waited in vain: the Go service, for example, publishes nothing.
const NO_WAIT_MS = 1000
// A connection that gives no answer for longer is replaced, so that a change is known after at most 2 s.
const TIMEOUT_MS = 800
// On a second attempt, because the answer may take long for its huge rows.
const SECOND_TIMEOUT_MS = 2250
const RECONNECT_MS = 100
// PostgreSQL ends the connection of a replica that is paused or gone, so that another one can announce.
const IDLE_MS = 6000
// Also where there is so much to read that nobody ever waits.
const CHECK_MS = 700
/**
 * A replica or a client that is more than this many entries behind starts over from the newest messages,
 * which takes less time than reading all entries.
 */
export const MAX_CATCH_UP = 10_000
const READ_ONLY = 'the server is read-only'
const GONE_BACK = 'the log has gone back'

/** What tells this room from all others that may share a Redis, and the key of its replicas. */
const FIND_ROOM = `
  select system_identifier || ' ' || current_database() || ' ' || relnamespace as name, key,
    relnamespace::int as schema
  from pg_control_system(), chat_replica_key, pg_class
  where chat_replica_key.id = 1 and pg_class.oid = 'chat_event'::regclass`

/**
 * The outcome of a publication: it was news, was known already, left a gap that PostgreSQL has to fill, or
 * came from a stranger.
 */
export type Outcome = 'applied' | 'known' | 'gap' | 'invalid'

/**
 * Follows the log on a connection of its own, and keeps the Timeline at its end, for as long as the process
 * lives. Of several replicas, one LISTENs to PostgreSQL and announces to the others through Redis what is
 * new; where that does not work, each replica LISTENs. Either way, each replica regularly compares its
 * Timeline with the log.
 */
export class Follower {
  #timeline: Timeline
  #options: pg.ClientConfig
  #log: Log
  #isInForce: () => boolean
  #channel: LogChannel
  /** Called when a server that takes writes is followed again, after another one or none was. */
  onReconnected: () => void = () => {}
  /** Called for each publication of another replica. */
  onHeard: (outcome: Outcome) => void = () => {}
  #stop = new AbortController()
  #interrupt: (reason: Error) => void = () => {}
  #complaint: string | undefined
  #hasFailed = false
  #callers: (() => void)[] = []
  #announced = 0
  /** What other replicas have published that does not continue the Timeline yet. */
  #early: LogPage[] = []
  #noWaitUntil = -Infinity
  #checkedAt = -Infinity
  #spared = 0
  #isWoken = false
  #wake = () => {}
  #poll: NodeJS.Timeout | undefined
  #graceTimer: NodeJS.Timeout | undefined
  #isListening = false
  #isAnnouncer = false
  #ended: Promise<void> | undefined

  /**
   * @param isInForce whether every change of a message reaches the log, so that its end is all there is
   * @param channel how this replica talks to the others
   */
  constructor(
    timeline: Timeline,
    options: pg.ClientConfig,
    log: Log,
    isInForce: () => boolean,
    channel: LogChannel
  ) {
    this.#timeline = timeline
    this.#isInForce = isInForce
    this.#options = {
      ...options,
      application_name: 'chat-backend log',
      options: `${options.options ?? ''} -c idle_session_timeout=${IDLE_MS}`.trim()
    }
    this.#log = log
    this.#channel = channel
    channel.onPage = (page) => this.#hear(page)
    channel.onInvalid = () => this.onHeard('invalid')
  }

  /** Whether this replica announces to the others what is new in the log. */
  get isAnnouncer(): boolean {
    return this.#isAnnouncer
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
   * Leaves what is announced to the caller, who reads the log itself, until it calls the returned function.
   */
  spare(): () => void {
    this.#spared++
    return () => {
      this.#spared--
      this.#followAnnounced()
    }
  }

  /** Publishes entries that were just written. The first one is older, and tells where the others belong. */
  publish(entries: LogEntry[]): void {
    this.#channel.publish({ entries, hasNext: false })
  }

  /** Applies entries that were read from the log, as `Timeline.apply` does, and what continues them. */
  apply(from: number, entries: LogEntry[]): Applied {
    const applied = this.#timeline.apply(from, entries)
    this.#hearEarly()
    return applied
  }

  /** The same, and publishes the entries that are new. */
  #applyAndPublish(from: number, entries: LogEntry[]): Applied {
    const { seq: before } = this.#timeline
    const applied = this.#timeline.apply(from, entries)
    const { seq: last } = this.#timeline
    // The entry `before` comes first: it tells the others where the new ones belong.
    if (last > before) this.publish(entries.filter(({ seq }) => seq >= before && seq <= last))
    this.#hearEarly()
    return applied
  }

  /**
   * Waits a moment until the Timeline has reached the entry `seq`, of which another replica has yet to tell.
   * @returns whether it has
   */
  async reaches(seq: number): Promise<boolean> {
    if (this.#timeline.seq >= seq) return true
    const mayCome = this.#channel.isOpen && this.#channel.hasPeers
    if (!mayCome || performance.now() < this.#noWaitUntil) return false
    const signal = AbortSignal.timeout(PREDECESSORS_MS)
    while (!signal.aborted) {
      await once(this.#timeline, 'frames', { signal }).catch(() => {})
      if (this.#timeline.seq >= seq) return true
    }
    this.#noWaitUntil = performance.now() + NO_WAIT_MS
    return false
  }

  /** Applies what another replica has published, or keeps it until the Timeline has what comes before. */
  #hear(page: LogPage): void {
    const { entries, hasNext } = page
    const { seq } = this.#timeline
    const [first, last] = [entries[0], entries.at(-1)]
    if (seq === 0 || first === undefined || last === undefined) return
    const isHeartbeat = entries.length === 1
    const isEarly = first.seq > seq && !isHeartbeat && !hasNext && this.#early.length < MAX_EARLY
    if (isEarly) {
      this.#early.push(page)
      this.#expect(last.seq)
      return
    }
    const isContinued = last.seq < seq || this.#applyHeard(first.seq, entries) === 'applied'
    if (isContinued && !hasNext) {
      this.onHeard(this.#timeline.seq > seq ? 'applied' : 'known')
      if (isHeartbeat && !this.#hasFailed) this.#postponeCheck()
      this.#hearEarly()
    } else {
      this.onHeard('gap')
      if (hasNext) this.#checkedAt = -Infinity // The announcer may have failed.
      this.#expect(Math.max(last.seq, hasNext ? seq + 1 : 0))
    }
  }

  /** Applies a publication that came too early, if the Timeline now has what comes before it. */
  #hearEarly(): void {
    const index = this.#early.findIndex(({ entries: [first] }) => first && first.seq <= this.#timeline.seq)
    const page = this.#early[index]
    if (page === undefined) return
    this.#early.splice(index, 1)
    this.#hear(page)
  }

  /** The announcer has just compared its Timeline with the log, so this replica need not do so yet. */
  #postponeCheck(): void {
    this.#confirm()
    if (performance.now() - this.#checkedAt < UNCHECKED_MS) this.#poll?.refresh()
  }

  #applyHeard(from: number, entries: LogEntry[]): Applied {
    try {
      return this.#timeline.apply(from, entries)
    } catch {
      return 'gap' // Reading the log reports the problem.
    }
  }

  #followAnnounced(): void {
    if (this.#spared === 0 && this.#announced > this.#timeline.seq) this.#wakeUp()
  }

  /** Reads the log up to the entry `seq`, unless publications bring it in a moment. */
  #expect(seq: number): void {
    this.#announced = Math.max(this.#announced, seq)
    this.#followAnnouncedSoon()
  }

  #followAnnouncedSoon(): void {
    const expected = this.#announced
    this.#graceTimer ??= setTimeout(() => {
      this.#graceTimer = undefined
      if (this.#timeline.seq < expected && this.#spared === 0) this.#wakeUp()
      else if (this.#timeline.seq < this.#announced) this.#followAnnouncedSoon()
    }, GRACE_MS)
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
      this.#announceEnd(true)
      this.#isAnnouncer = false
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
      if (this.#isAnnouncer && this.#channel.hasPeers) this.#followAnnouncedSoon()
      else this.#followAnnounced()
    })
    try {
      // stop() does not wait for a server that does not answer.
      await Promise.race([client.connect(), lost])
      this.#isListening = false
      this.#announced = 0
      const query = createQuery(client)
      await this.#listen(query)
      const { isReadOnly } = await this.#look(query)
      await this.#catchUp(query, true, isReadOnly)
      const schema = await this.#join(query)
      for (;;) {
        await this.#pause(lost)
        const isDue = performance.now() - this.#checkedAt > CHECK_MS
        if (isDue) await this.#check(query, schema)
        await this.#listen(query)
        if (this.#isWoken || this.#timeline.isShort) await this.#catchUp(query, false, false)
        if (isDue) this.#announceEnd()
      }
    } finally {
      hangUp(client)
    }
  }

  /**
   * Joins the other replicas of this room.
   * @returns the schema of the log, undefined if this replica stays on its own
   */
  async #join(query: Query): Promise<number | undefined> {
    try {
      const [room] = await withTimeout(TIMEOUT_MS, query<SharedRoom & { schema: number }>(FIND_ROOM))
      if (room) this.#channel.join(room)
      return room?.schema
    } catch (error) {
      if (error instanceof TimeoutError) throw error
      return undefined // There is no key yet, or no right to read it.
    }
  }

  /** Has PostgreSQL notify this replica, unless another one announces what is new. */
  async #listen(query: Query): Promise<void> {
    const isNeeded = this.#isAnnouncer || !this.#channel.isAnnounced
    if (isNeeded === this.#isListening) return
    await withTimeout(TIMEOUT_MS, query(isNeeded ? 'listen chat_event' : 'unlisten chat_event'))
    this.#isListening = isNeeded
    if (isNeeded) this.#isWoken = true // There were no notifications until now.
  }

  #noteSuccess(): void {
    if (this.#hasFailed) this.onReconnected()
    this.#hasFailed = false
    if (this.#complaint !== undefined) this.#log.info('following the event log again')
    this.#complaint = undefined
  }

  async #look(query: Query, lock?: number): Promise<LogCheck> {
    const check = await withTimeout(TIMEOUT_MS, checkLog(query, this.#timeline.seq, lock))
    this.#checkedAt = performance.now()
    return check
  }

  /**
   * Compares the end of the Timeline with the log, and tries to become the announcer.
   * @throws {Error} if this connection must not be used any longer: after a failover, the old primary may
   * still answer on it, as a standby or with writes forbidden
   */
  async #check(query: Query, schema: number | undefined): Promise<void> {
    const isOpen = schema !== undefined && this.#channel.isOpen
    if (this.#isAnnouncer && !isOpen) {
      this.#isAnnouncer = false
      await withTimeout(TIMEOUT_MS, resign(query, schema))
    }
    const { seq, mark } = this.#timeline
    const found = await this.#look(query, isOpen && !this.#isAnnouncer ? schema : undefined)
    if (found.isReadOnly) throw new Error(READ_ONLY)
    if (seq > 0 && (found.mark === null || (mark !== undefined && mark !== found.mark))) {
      throw new Error(GONE_BACK)
    }
    if (found.mark !== null) this.#timeline.learnMark(seq, found.mark)
    if (found.isElected) {
      this.#isAnnouncer = true
      this.#isWoken = true
    }
    // A publication may be on its way.
    if (this.#isBehind(found) && this.#channel.isAnnounced) await sleep(GRACE_MS)
    if (this.#isBehind(found) || this.#hasFailed) this.#isWoken = true
    else if (!this.#isWoken) this.#confirm()
  }

  /** @param hasNext whether the others should look for themselves, because this replica no longer can */
  #announceEnd(hasNext = false): void {
    const { seq, mark } = this.#timeline
    if (this.#isAnnouncer && seq > 0) this.#channel.publishEnd(seq, mark, hasNext)
  }

  #isBehind({ last }: LogCheck): boolean {
    return this.#timeline.seq < (last ?? 0)
  }

  async #isFarBehind(query: Query): Promise<boolean> {
    const { seq } = this.#timeline
    const { last } = await withTimeout(TIMEOUT_MS, checkLog(query, seq))
    return last !== null && last - seq > MAX_CATCH_UP
  }

  #confirm(): void {
    if (this.#isInForce()) this.#timeline.markFresh()
    else this.#timeline.markStale()
  }

  async #pause(lost: Promise<never>): Promise<void> {
    if (this.#isWoken) return
    const woken = new Promise<void>((resolve) => {
      this.#wake = resolve
    })
    const { min, max } = this.#isListening ? POLL_MS : RELYING_POLL_MS
    this.#poll = setTimeout(this.#wake, min + Math.random() * (max - min))
    await Promise.race([woken, lost]).finally(() => {
      clearTimeout(this.#poll)
      this.#poll = undefined
    })
  }

  async #catchUp(query: Query, isFresh: boolean, isReadOnly: boolean): Promise<void> {
    this.#isWoken = false
    const callers = this.#callers.splice(0)
    await this.#read(query, isFresh, isReadOnly).finally(() => {
      for (const resolve of callers) resolve()
    })
    if (!isReadOnly) this.#noteSuccess()
  }

  /**
   * @param isFresh on a connection that has read nothing yet: only such a one is believed that the log has
   * gone back
   */
  async #read(query: Query, isFresh: boolean, isReadOnly: boolean): Promise<void> {
    this.#early = [] // All of it is in the log already.
    for (let isMore = true; isMore;) {
      const from = this.#timeline.seq
      const timeoutMs = this.#hasFailed ? SECOND_TIMEOUT_MS : TIMEOUT_MS
      const { entries, hasNext } = await withTimeout(timeoutMs, readLog(query, from))
      isMore = hasNext
      const applied = this.#isAnnouncer ? this.#applyAndPublish(from, entries) : this.apply(from, entries)
      if (applied === 'applied' && !(isMore && (await this.#isFarBehind(query)))) continue
      if (applied === 'gap' && from > 0 && (!isFresh || isReadOnly)) {
        throw new Error(isReadOnly ? READ_ONLY : GONE_BACK)
      }
      this.#timeline.load(await newestMessages(query, TAIL_LENGTH, TAIL_BYTES))
      this.#announceEnd() // so that the others load, too
    }
    if (this.#timeline.isShort) this.#timeline.fill(await newestMessages(query, TAIL_LENGTH, TAIL_BYTES))
    if (isReadOnly) this.#timeline.markStale()
    else if (!this.#hasFailed || !this.#isWoken) this.#confirm()
  }
}
