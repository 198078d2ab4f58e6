import type { Query } from '../database/query.ts'
import type { Log } from '../lib/logger.ts'
import { skeletonDigests } from './skeletons.ts'

// Users at a time: some milliseconds of computing, and not much more of writing.
const BATCH = 500
const EVERY_MS = 60_000

// Who is gone has no nickname.
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
 * Keeps `chat_user_skeleton` up to date with the nicknames of `chat_user`, of which others write as well.
 * Their changes wait in a queue, because SQL cannot tell what a nickname looks like. After the first
 * migration, all users are in it.
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

  /** Whether more waits than a registration can wait for: the background is at it. */
  get isFarBehind(): boolean {
    return this.#isFarBehind
  }

  /** Works off the queue, now and every minute, in the background: there may be a million users in it. */
  start(): void {
    const run = () => {
      this.#background ??= this.#workOff()
        .catch(({ message }: Error) => this.#log.warn(`could not index nicknames: ${message}`))
        .finally(() => {
          this.#background = undefined
          this.#isFarBehind = false
        })
    }
    this.#timer = setInterval(run, EVERY_MS)
    run()
  }

  /** Resolves when nothing is under way any more. */
  async stop(): Promise<void> {
    this.#isStopped = true
    clearInterval(this.#timer)
    await this.#background
  }

  /**
   * Works off a part of the queue. Whoever asks while that is under way waits for the same part.
   * @returns the number of changes, 0 when there were none
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
