import { createHash } from 'node:crypto'
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { isExact, visibleMessages } from '../chat/messages.ts'
import { createQuery, hangUp, IS_READ_ONLY, type Query } from '../database/query.ts'
import type { Log } from '../lib/logger.ts'
import { reasonOf } from '../lib/reason.ts'
import { vectorOf } from './patterns.ts'
import { AFTER_ALL } from './search.ts'
import type { Stemmer } from './stemmer.ts'
import { MAX_INDEXED, wordsOf } from './words.ts'

// Of the lock that only one replica of a room can hold. Any number that no other program on this database
// uses for its locks.
const LOCK = 7_243_006
// To be changed with the rules of src/search/words.ts, so that all messages are indexed again.
const VERSION = 2

const POLL_MS = 500
// How often a replica asks whether it may index: where another one does, and after a failure.
const STANDBY_MS = 3000
const RETRY_MS = 1000
const PROGRESS_MS = 60_000
// How long a pause is, as a multiple of the work before it. Where more is posted than is indexed, posts come
// first: to index their words costs more than to post them.
const PAUSE_BEHIND = 9
const PAUSE_OF_SWEEP = 1
const MAX_EVENTS = 200 // entries of the log at a time
const MAX_BATCH = 500 // messages at a time, of those that are there already
const MIN_BATCH = 20 // of either
/** A batch that takes longer is followed by a smaller one. */
const SLOW_BATCH_MS = 300
const ORPHANS = 1000 // rows without a message, at a time
/** For how long words are split before other work of the process gets its turn. */
const TURN_MS = 5
const LOWEST = -AFTER_ALL

// There may be another room in another schema of this database.
const ROOM = "'chat_message_search'::regclass::oid::int"
const IS_FREE = `select pg_try_advisory_xact_lock(${LOCK}, ${ROOM}) as "isFree"`
const TAKE_LOCK = `
  select pg_try_advisory_lock(${LOCK}, ${ROOM}) as "isTaken", ${IS_READ_ONLY} as "isReadOnly"`

const READ_STATE = `
  select state.settings, state.seq, state.below, newest.seq as newest_seq
  from (select max(seq) as seq from chat_event) newest left join chat_search_state state on state.id = 1`
const SAVE_STATE = `
  insert into chat_search_state (id, settings, seq, below) values (1, $1, $2, $3)
  on conflict (id) do update set settings = excluded.settings, seq = excluded.seq, below = excluded.below`

// The entry that was read last comes first. Where it does not, the log does not reach back to it.
const READ_EVENTS = `
  select seq, kind, case when ${isExact('message_id')} then message_id end as message_id,
    ${IS_READ_ONLY} as is_read_only
  from chat_event where seq >= $1 order by seq limit $2 + 1`

const columns = `
  message.id, left(message.text, ${MAX_INDEXED}) as text,
  hashtextextended(message.text, $1)::text as digest`
const READ_CHANGED = `select ${columns} from ${visibleMessages('and id = any ($2)')}`
// The text is left out where it is indexed.
const READ_BELOW = `
  select message.id, message.digest,
    case when indexed.digest is distinct from message.digest::bigint then message.text end as text
  from (select ${columns} from ${visibleMessages('and id < $2')} order by message.id desc limit $3) message
  left join chat_message_search indexed on indexed.message_id = message.id order by message.id desc`

const WRITE = `
  insert into chat_message_search (message_id, digest, words)
  select id, digest, replace(words, chr(1), to_hex(id >> 16) || ':')::tsvector
  from unnest($1::bigint[], $2::bigint[], $3::text[]) as entry (id, digest, words)
  on conflict (message_id) do update set digest = excluded.digest, words = excluded.words`
const DELETE = 'delete from chat_message_search where message_id = any ($1)'
const DELETE_ORPHANS = `
  delete from chat_message_search where message_id = any (array(
    select message_id from chat_message_search
    where message_id >= $1 and message_id < $2 and message_id <> all ($3::bigint[])
    order by message_id limit ${ORPHANS}
  )) returning message_id`

const half = (size: number) => Math.max(MIN_BATCH, Math.floor(size / 2))

interface State {
  /** The last entry of the log whose message is indexed. */
  seq: number
  /** Messages below this id are still to be looked at; null when all were. */
  below: number | null
}

/** Before the state was read for the first time. */
const UNKNOWN: State = { seq: 0, below: AFTER_ALL }

interface TextRow {
  id: number
  /** Of the whole text; a bigint, which a number does not hold. */
  digest: string
  text: string
}
type SweepRow = Omit<TextRow, 'text'> & { text: string | null }
interface EventRow {
  seq: number
  kind: string
  message_id: number | null
  is_read_only: boolean
}

interface Options {
  query: Query
  connection: pg.ClientConfig
  stemmer: Stemmer
  languages: readonly string[]
  /** Where this replica knows the log to be. */
  knownSeq: () => number
  log: Log
}

/**
 * Keeps `chat_message_search` up to date with the messages: it follows the event log, and looks at the
 * messages that are there already, from the newest to the oldest, in small batches with pauses. One replica
 * at a time does it, on a connection of its own that holds a lock. What is done is noted in the database, so
 * any replica goes on from there.
 */
export class SearchIndexer {
  #query: Query
  #connection: pg.ClientConfig
  #stemmer: Stemmer
  #knownSeq: () => number
  #log: Log
  #settings: string
  #seed: number
  #stop = new AbortController()
  #ended: Promise<void> | undefined
  #complaint: string | undefined
  /** Undefined where another replica indexes. */
  #state: State | undefined
  #events = MAX_EVENTS
  #batchSize = MAX_BATCH
  #sweep = { startedAt: 0, loggedAt: 0, seen: 0, indexed: 0, isLogged: false }

  constructor({ query, connection, stemmer, languages, knownSeq, log }: Options) {
    this.#query = query
    this.#connection = { ...connection, application_name: 'chat-backend search' }
    this.#stemmer = stemmer
    this.#knownSeq = knownSeq
    this.#log = log
    this.#settings = `${VERSION} ${languages.join(',')}`
    // A row that was made with other settings has another digest.
    this.#seed = createHash('sha256').update(this.#settings).digest().readUIntBE(0, 6)
  }

  /** Entries of the log that are not indexed yet, also while it fails; 0 where another replica indexes. */
  get lag(): number {
    return this.#state ? Math.max(0, this.#knownSeq() - this.#state.seq) : 0
  }

  /** Works in the background from now on. */
  start(): void {
    this.#ended = this.#run()
  }

  /** Resolves when nothing is under way any more. */
  async stop(): Promise<void> {
    this.#stop.abort()
    await this.#ended
  }

  get #isStopped(): boolean {
    return this.#stop.signal.aborted
  }

  async #pause(ms: number): Promise<void> {
    await sleep(ms, undefined, { signal: this.#stop.signal }).catch(() => {})
  }

  async #run(): Promise<void> {
    while (!this.#isStopped) {
      let pauseMs = STANDBY_MS
      try {
        const [lock] = await this.#query<{ isFree: boolean }>(IS_FREE, [])
        if (lock?.isFree) await this.#index()
        else this.#state = undefined
      } catch (error) {
        this.#complain(error)
        pauseMs = RETRY_MS
      }
      // Not all replicas at the same time.
      await this.#pause(pauseMs * (0.5 + Math.random()))
    }
  }

  #complain(error: unknown): void {
    const reason = reasonOf(error)
    if (!this.#isStopped && reason !== this.#complaint) {
      this.#log.warn(`cannot index messages for search: ${reason}`)
    }
    this.#complaint = reason
  }

  /** Indexes until the service stops, or the connection fails. */
  async #index(): Promise<void> {
    const client = new pg.Client(this.#connection)
    client.on('error', () => {}) // A query reports it as well.
    try {
      await client.connect()
      const query = createQuery(client)
      const [lock] = await query<{ isTaken: boolean; isReadOnly: boolean }>(TAKE_LOCK, [])
      if (!lock?.isTaken) {
        this.#state = undefined
        return
      }
      this.#state ??= UNKNOWN
      if (lock.isReadOnly) throw new Error('the server is read-only')
      await this.#load(query)
      while (!this.#isStopped) await this.#work(query)
    } finally {
      hangUp(client)
    }
  }

  async #work(query: Query): Promise<void> {
    const startedAt = performance.now()
    const isMore = await this.#follow(query)
    if (this.#complaint !== undefined) this.#log.info('indexing messages for search again')
    this.#complaint = undefined
    const below = this.#state?.below ?? null
    // Not immediately for each message, because several together cost as little as one.
    if (!isMore && below === null) return this.#pause(POLL_MS)
    if (!isMore && below !== null) await this.#sweepSome(query, below)
    const tookMs = performance.now() - startedAt
    await this.#pause(tookMs * (isMore ? PAUSE_BEHIND : PAUSE_OF_SWEEP))
  }

  async #load(query: Query): Promise<void> {
    const [row] = await query<{
      settings: string | null
      seq: number | null
      below: number | null
      newest_seq: number | null
    }>(READ_STATE, [])
    if (row?.seq != null && row.settings === this.#settings) {
      this.#state = { seq: row.seq, below: row.below }
      this.#beginSweep()
    } else {
      await this.#startOver(query, row?.newest_seq ?? 0)
    }
  }

  /** Looks at all messages again, and follows the log from an entry on. */
  async #startOver(query: Query, seq: number): Promise<void> {
    await this.#save(query, { seq, below: AFTER_ALL })
    this.#beginSweep()
  }

  #beginSweep(): void {
    const now = performance.now()
    this.#sweep = { startedAt: now, loggedAt: now, seen: 0, indexed: 0, isLogged: false }
  }

  async #save(query: Query, state: State): Promise<void> {
    await query(SAVE_STATE, [this.#settings, state.seq, state.below])
    this.#state = state
  }

  /** Indexes what has changed since the last time. @returns whether there is more */
  async #follow(query: Query): Promise<boolean> {
    const { seq } = this.#state ?? UNKNOWN
    const knownSeq = this.#knownSeq()
    const size = this.#events
    this.#events = half(size) // should it fail
    const [first, ...entries] = await query<EventRow>(READ_EVENTS, [seq, size])
    if (first?.is_read_only) throw new Error('the server is read-only')
    if (first?.seq !== seq) {
      const [row] = await query<{ newest_seq: number | null }>(READ_STATE, [])
      await this.#startOver(query, row?.newest_seq ?? 0)
      return true
    }
    const last = entries.at(-1)
    // After a failover, this connection may lead to a server that is none any more.
    if (entries.length < size && (last?.seq ?? seq) < knownSeq) throw new Error('the log goes on elsewhere')
    if (last !== undefined) await this.#followTo(query, last.seq, entries)
    this.#events = Math.min(MAX_EVENTS, size * 2)
    return entries.length === size
  }

  /** @param seq the last of these entries */
  async #followTo(query: Query, seq: number, entries: EventRow[]): Promise<void> {
    const ids = new Set(entries.flatMap(({ message_id: id }) => (id === null ? [] : [id])))
    await this.#update(query, [...ids])
    const isReset = entries.some(({ kind }) => kind === 'reset')
    await this.#save(query, { seq, below: isReset ? AFTER_ALL : (this.#state?.below ?? null) })
    if (isReset) this.#beginSweep()
  }

  /** Indexes these messages as they are now. */
  async #update(query: Query, ids: number[]): Promise<void> {
    if (ids.length === 0) return
    const rows = await query<TextRow>(READ_CHANGED, [this.#seed, ids])
    await this.#write(query, rows)
    const found = new Set(rows.map(({ id }) => id))
    const gone = ids.filter((id) => !found.has(id))
    if (gone.length > 0) await query(DELETE, [gone])
  }

  /** Looks at the newest messages below an id: indexes those that are not, forgets those that are gone. */
  async #sweepSome(query: Query, below: number): Promise<void> {
    const startedAt = performance.now()
    const size = this.#batchSize
    this.#batchSize = half(size) // should it fail
    const rows = await query<SweepRow>(READ_BELOW, [this.#seed, below, size])
    await this.#write(
      query,
      rows.flatMap(({ text, ...row }) => (text === null ? [] : [{ ...row, text }]))
    )
    const isLast = rows.length < size
    const lowest = isLast ? LOWEST : (rows.at(-1)?.id ?? LOWEST)
    let orphans = 0
    do {
      const ids = rows.map(({ id }) => id)
      orphans = (await query(DELETE_ORPHANS, [lowest, below, ids])).length
    } while (orphans === ORPHANS && !this.#isStopped)
    await this.#save(query, { seq: this.#state?.seq ?? 0, below: isLast ? null : lowest })
    if (performance.now() - startedAt < SLOW_BATCH_MS) this.#batchSize = Math.min(MAX_BATCH, size * 2)
    this.#sweep.seen += rows.length
    this.#sweep.indexed += rows.filter(({ text }) => text !== null).length
    this.#logProgress(lowest, isLast)
  }

  #logProgress(lowest: number, isLast: boolean): void {
    const { startedAt, loggedAt, seen, indexed, isLogged } = this.#sweep
    const now = performance.now()
    // One batch is done before anybody could read of it.
    if (!isLogged && isLast) return
    if (!isLogged) {
      this.#sweep.isLogged = true
      this.#log.info('indexing the messages for search')
    } else if (isLast) {
      const seconds = Math.round((now - startedAt) / 1000)
      this.#log.info(
        `all messages are indexed for search: ${indexed} of ${seen} were new or changed, in ${seconds} s`
      )
    } else if (now - loggedAt >= PROGRESS_MS) {
      this.#sweep.loggedAt = now
      this.#log.info(
        `${indexed} of ${seen} messages were indexed for search; those before ${lowest} are next`
      )
    }
  }

  async #write(query: Query, rows: TextRow[]): Promise<void> {
    if (rows.length === 0) return
    const words = await this.#split(rows.map(({ text }) => text))
    const stems = await this.#stemmer.lookUp(query, words.flat())
    await query(WRITE, [
      rows.map(({ id }) => id),
      rows.map(({ digest }) => digest),
      words.map((those) => vectorOf(those, stems))
    ])
  }

  async #split(texts: string[]): Promise<string[][]> {
    const words: string[][] = []
    let turnStartedAt = performance.now()
    for (const text of texts) {
      words.push(wordsOf(text))
      if (performance.now() - turnStartedAt > TURN_MS) {
        await nextTurn()
        turnStartedAt = performance.now()
      }
    }
    return words
  }
}
