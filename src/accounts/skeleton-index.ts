import type { Query } from '../database/query.ts'
import type { Log } from '../lib/logger.ts'
import { reasonOf } from '../lib/reason.ts'
import { skeletonDigests } from './skeletons.ts'

// Users at a time: a few milliseconds of computing, and not much more of writing.
const BATCH = 500
const EVERY_MS = 60_000

// A deleted user has no nickname.
const READ_CHANGES = `
  select changed.seq, changed.user_id, chat_user.nickname
  from (select seq, user_id from chat_user_skeleton_queue order by seq limit ${BATCH}) changed
  left join chat_user on chat_user.id = changed.user_id`
interface Change {
  seq: number
  user_id: number
  nickname: string | null
}

/**
 * Keeps `chat_user_skeleton` in step with the nicknames in `chat_user`, which other programs write too.
 * Triggers queue their changes, because SQL cannot compute skeletons. After the first migration, all users
 * are queued.
 */
export class SkeletonIndex {
  #query: Query
  #log: Log
  #batch: Promise<number> | undefined
  #timer: NodeJS.Timeout | undefined
  #background: Promise<void> | undefined
  #isStopped = false
  #isFarBehind = false

  constructor(query: Query, log: Log) {
    this.#query = query
    this.#log = log
  }

  /** Whether the queue is too long for a registration to wait for it. */
  get isFarBehind(): boolean {
    return this.#isFarBehind
  }

  /** Processes the queue in the background, now and every minute. It may hold a million users. */
  start(): void {
    const run = () => {
      this.#background ??= this.#workOff()
        .catch((error: unknown) => this.#log.warn(`could not index nicknames: ${reasonOf(error)}`))
        .finally(() => {
          this.#background = undefined
          this.#isFarBehind = false
        })
    }
    this.#timer = setInterval(run, EVERY_MS)
    run()
  }

  /** Stops the background work, and resolves when it has finished. */
  async stop(): Promise<void> {
    this.#isStopped = true
    clearInterval(this.#timer)
    await this.#background
  }

  /**
   * Processes a part of the queue. Calls made meanwhile wait for the same part.
   * @returns the number of changes; 0 if the queue was empty
   * @throws {DatabaseUnavailable}
   */
  async workOffSome(): Promise<number> {
    this.#batch ??= this.#workOffBatch().finally(() => {
      this.#batch = undefined
    })
    return this.#batch
  }

  async #workOff(): Promise<void> {
    const started = performance.now()
    let total = 0
    let count = 0
    do {
      count = await this.workOffSome()
      if (total === 0 && count === BATCH) {
        this.#isFarBehind = true
        this.#log.info('indexing nicknames; registrations get 503 busy until it is done')
      }
      total += count
    } while (count === BATCH && !this.#isStopped)
    const tookMs = Math.round(performance.now() - started)
    if (total >= BATCH) this.#log.info(`indexed ${total} nicknames in ${tookMs} ms`)
  }

  async #workOffBatch(): Promise<number> {
    const changes = await this.#query<Change>(READ_CHANGES, [])
    if (changes.length === 0) return 0
    const nicknames = new Map(changes.map(({ user_id: id, nickname }) => [id, nickname]))
    const skeletons = [...nicknames].flatMap(([id, nickname]) =>
      nickname === null ? [] : skeletonDigests(nickname).map((digest) => ({ id, digest }))
    )
    await this.#query('select chat_user_index($1, $2, $3, $4, $5)', [
      changes.map(({ seq }) => seq),
      [...nicknames.keys()],
      [...nicknames.values()],
      skeletons.map(({ id }) => id),
      skeletons.map(({ digest }) => digest)
    ])
    return changes.length
  }
}
