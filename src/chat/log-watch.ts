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
// How long readyz is answered from the last check, if it found nothing.
const FRESH_MS = 1000
// How long a message that did not reach the log counts, so that whoever asks now and then learns of it.
const MISSED_MS = 10_000

/**
 * Watches whether the event log is in force: whether every change of a message reaches it, whoever makes the
 * change. Where it is not, messages are stored that no stream tells and no page from memory shows, without an
 * error anywhere.
 */
export class LogWatch {
  #query: Query
  #timeline: Timeline
  #log: Log
  #problem: string | undefined
  #missedAt = -Infinity
  #missedIds: number[] = []
  #lastSeq = 0 // of the Timeline, when the problem was last seen
  #resetAt = -Infinity
  #checkedAt = -Infinity
  #hasWarnedOfIds = false
  #check: Promise<void> | undefined
  #timer: NodeJS.Timeout | undefined
  /** Told of messages that were stored and did not reach the log. */
  onMissed: (count: number) => void = () => {}

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

  /** What is wrong, as far as is known; undefined while the log is in force. */
  get problem(): string | undefined {
    if (this.#problem !== undefined) return this.#problem
    return performance.now() - this.#missedAt < MISSED_MS
      ? `messages did not reach the log: ${this.#missedIds.join(', ')}`
      : undefined
  }

  /**
   * Resolves when `problem` is what a look at the database says; that all is well may be known for a second.
   * @throws {DatabaseUnavailable}
   */
  async check(): Promise<void> {
    if (this.#problem !== undefined || performance.now() - this.#checkedAt > FRESH_MS) await this.#checkNow()
  }

  /** Notes that these messages were stored, but were not in the log when it was read after that. */
  missed(ids: number[]): void {
    this.onMissed(ids.length)
    if (this.problem === undefined) {
      this.#log.error(`the event log is incomplete: messages did not reach it: ${ids.join(', ')}`)
    }
    this.#missedIds = ids.slice(0, 10)
    this.#missedAt = performance.now()
    this.#timeline.markStale()
    this.#checkInBackground()
  }

  /** Sets the sequences right that were set back, where there are such. @returns whether there were */
  async repairSequences(): Promise<boolean> {
    const problems = await this.#query<Problem>(CHECK_SEQUENCES)
    if (problems.length === 0) return false
    this.#log.error(`the event log is incomplete: ${problems.map(({ what }) => what).join('; ')}`)
    await this.#query(REPAIR, [this.#timeline.seq])
    this.#log.warn('the sequences were advanced to match the tables; clients reload the room')
    return true
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
      const isMissing = wasBroken || this.#missedIds.length > 0
      if (!isRepaired && isMissing && performance.now() - this.#resetAt > EVERY_MS) {
        // What was written meanwhile is not in the log, so everybody must load the room again.
        await this.#query(REPAIR, [wasBroken ? this.#lastSeq : this.#timeline.seq])
        this.#resetAt = performance.now()
        this.#missedIds = []
      }
      if (wasBroken) this.#log.info('the event log is complete again')
      if (wasBroken || isRepaired) this.#missedAt = -Infinity // What was missed is explained.
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
