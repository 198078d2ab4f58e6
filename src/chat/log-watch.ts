import {
  CHECK_SEQUENCES,
  CHECK_TRIGGERS,
  INEXACT_IDS,
  type Problem,
  REPAIR
} from '../database/event-log-check.ts'
import type { Query } from '../database/query.ts'
import type { Log } from '../lib/logger.ts'
import type { Timeline } from './timeline.ts'

const EVERY_MS = 5000
// How long readyz may use the result of the last check, if that found nothing.
const FRESH_MS = 1000
// How long a missed message counts as a problem, so that periodic checks of readiness and metrics see it.
const MISSED_MS = 10_000

/**
 * Watches whether the event log is complete, that is, whether every change of a message reaches it, whoever
 * makes the change. Otherwise messages are stored that appear in no stream and in no page from memory,
 * without an error anywhere.
 */
export class LogWatch {
  #query: Query
  #timeline: Timeline
  #log: Log
  #problem: string | undefined
  #missedAt = -Infinity
  #missedIds: number[] = []
  #lastSeq = 0 // seq of the Timeline when the problem was last seen
  #resetAt = -Infinity
  #checkedAt = -Infinity
  #hasWarnedOfIds = false
  #check: Promise<void> | undefined
  #timer: NodeJS.Timeout | undefined
  /** Called with the number of messages that have a stored change which did not reach the log. */
  onMissed: (count: number) => void = () => {}
  /** Called after a repair. The log counts as incomplete until it has resolved. */
  onRepaired: () => Promise<void> = async () => {}

  constructor(query: Query, timeline: Timeline, log: Log) {
    this.#query = query
    this.#timeline = timeline
    this.#log = log
  }

  /** Checks now, and every few seconds until `stop`. */
  start(): void {
    this.#timer = setInterval(() => this.#checkInBackground(), EVERY_MS)
    this.#checkInBackground()
  }

  stop(): void {
    clearInterval(this.#timer)
  }

  /** The known problem; undefined while the log is complete. */
  get problem(): string | undefined {
    if (this.#problem !== undefined) return this.#problem
    return performance.now() - this.#missedAt < MISSED_MS
      ? `changes to messages did not reach the log: ${this.#missedIds.join(', ')}`
      : undefined
  }

  /**
   * Brings `problem` up to date. If nothing was wrong, the result of the last check is used for a second.
   * @throws {DatabaseUnavailable}
   */
  async check(): Promise<void> {
    if (this.#problem !== undefined || performance.now() - this.#checkedAt > FRESH_MS) await this.#checkNow()
  }

  /** Records messages that have a stored change which was missing when the log was read afterwards. */
  missed(ids: number[]): void {
    this.onMissed(ids.length)
    if (this.problem === undefined) {
      this.#log.error(`the event log is incomplete: changes to messages did not reach it: ${ids.join(', ')}`)
    }
    this.#missedIds = ids.slice(0, 10)
    this.#missedAt = performance.now()
    this.#timeline.markStale()
    this.#checkInBackground()
  }

  /** Repairs sequences that were set back. @returns whether there were any */
  async repairSequences(): Promise<boolean> {
    const problems = await this.#query<Problem>(CHECK_SEQUENCES)
    if (problems.length === 0) return false
    this.#log.error(`the event log is incomplete: ${problems.map(({ what }) => what).join('; ')}`)
    await this.#repair(this.#timeline.seq)
    this.#log.warn('the sequences were advanced to match the tables; clients reload the room')
    return true
  }

  /** Makes all clients reload the room, unless the log tells them so already after the entry `seq`. */
  async #repair(seq: number): Promise<void> {
    await this.#query(REPAIR, [seq])
    await this.onRepaired()
  }

  #checkInBackground(): void {
    this.#checkNow().catch(() => {}) // An outage is reported by the follower.
  }

  #checkNow(): Promise<void> {
    this.#check ??= this.#look().finally(() => {
      this.#check = undefined
    })
    return this.#check
  }

  async #look(): Promise<void> {
    const problems = await this.#query<Problem>(CHECK_TRIGGERS)
    const wasBroken = this.#problem !== undefined
    if (problems.length > 0) {
      const problem = problems.map(({ what }) => what).join('; ')
      if (problem !== this.#problem) this.#log.error(`the event log is incomplete: ${problem}`)
      this.#problem = problem
      this.#timeline.markStale()
      this.#lastSeq = this.#timeline.seq
    } else {
      const isRepaired = await this.repairSequences()
      // If changes keep being missed for an unknown reason, clients must not reload after each of them.
      const isMissing = this.#missedIds.length > 0 && performance.now() - this.#resetAt > EVERY_MS
      if (!isRepaired && (wasBroken || isMissing)) {
        // What was written meanwhile is not in the log, so all clients must reload the room.
        await this.#repair(wasBroken ? this.#lastSeq : this.#timeline.seq)
        this.#resetAt = performance.now()
      }
      if (isRepaired || wasBroken || isMissing) this.#missedIds = []
      if (wasBroken) this.#log.info('the event log is complete again')
      if (wasBroken || isRepaired) this.#missedAt = -Infinity // This explains the missed messages.
      this.#problem = undefined
      await this.#warnOfInexactIds()
    }
    this.#checkedAt = performance.now()
  }

  async #warnOfInexactIds(): Promise<void> {
    if (this.#hasWarnedOfIds) return
    const tables = await this.#query<{ table: string }>(INEXACT_IDS)
    if (tables.length === 0) return
    this.#hasWarnedOfIds = true
    const names = tables.map(({ table }) => table).join(' and ')
    this.#log.warn(`${names}: ids of 2^53 or more are not exact in JSON; such messages are not shown`)
  }
}
