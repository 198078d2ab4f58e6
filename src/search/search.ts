import { MAX_PAGE, type Message } from '../../schemas/messages.ts'
import type { SearchQuery } from '../../schemas/search.ts'
import { MAX_PAGE_BYTES, type MessageRow, readableMessages, toMessage } from '../chat/messages.ts'
import type { Query } from '../database/query.ts'
import { type Pattern, patternOf, termsOf } from './patterns.ts'
import type { Stemmer } from './stemmer.ts'

/** How long one search may look, in milliseconds. Few words take as long, such as a phrase of common ones. */
const BUDGET_MS = 250
/** Above every id of a message. */
export const AFTER_ALL = Number.MAX_SAFE_INTEGER + 1

// Changes are indexed within two seconds. If one waits for longer than this, the index is behind, or nobody
// keeps it up to date.
const BEHIND_SECONDS = 10
const IS_COMPLETE = `(
  state.seq is not null and state.below is null and not exists (
    select from (select created_at from chat_event where seq > state.seq order by seq limit 1) next
    where created_at < clock_timestamp() - interval '${BEHIND_SECONDS} s'
  ))`

const page = readableMessages({ conditions: 'and id = any (found.ids)', order: 'desc', maxBytes: '$6' })
const SEARCH = `
  select cursor.seq as cursor, found.next_below, ${IS_COMPLETE} as is_complete, page.*
  from (select max(seq) as seq from chat_event) cursor
  cross join chat_search($1, $2, $3, $4, $5) found
  left join chat_search_state state on state.id = 1
  left join lateral (${page}) page on true
  order by page.id desc`

const CURSOR = `
  select cursor.seq as cursor, ${IS_COMPLETE} as is_complete
  from (select max(seq) as seq from chat_event) cursor left join chat_search_state state on state.id = 1`

interface StandRow {
  cursor: number
  is_complete: boolean
}
type SearchRow = StandRow & { next_below: number | null } & ((MessageRow & { total: number }) | { id: null })

export interface Found {
  /** Ascending by id. */
  messages: Message[]
  /** Where the log of events stood before the search. */
  cursor: number
  /** Whether all messages are indexed, but for those of the last moment. */
  isComplete: boolean
  /** Where to continue, if the search stopped before it had found enough or had looked everywhere. */
  next: number | undefined
}

/**
 * Finds the newest messages that have all words of a text.
 * @param signal stops the search between two statements
 * @throws {DatabaseUnavailable}
 */
export async function searchMessages(
  query: Query,
  stemmer: Stemmer,
  { q, limit, before_id: before }: SearchQuery,
  signal: AbortSignal
): Promise<Found> {
  const terms = termsOf(q)
  if (terms.length === 0) return findNothing(query)
  const stems = await stemmer.lookUp(
    query,
    terms.flatMap(({ words, isQuoted }) => (isQuoted ? [] : words))
  )
  return findNewest(query, patternOf(terms, stems), Math.min(limit, MAX_PAGE), before ?? AFTER_ALL, signal)
}

async function findNothing(query: Query): Promise<Found> {
  const [stand] = await query<StandRow>(CURSOR, [])
  return {
    messages: [],
    cursor: stand?.cursor ?? 0,
    isComplete: stand?.is_complete ?? false,
    next: undefined
  }
}

async function findNewest(
  query: Query,
  { all, needed }: Pattern,
  wanted: number,
  before: number,
  signal: AbortSignal
): Promise<Found> {
  const deadline = performance.now() + BUDGET_MS
  const newestFirst: Message[] = []
  let stand: StandRow | undefined
  let next: number | null = before
  let bytes = 0
  for (;;) {
    const leftMs = Math.max(0, Math.round(deadline - performance.now()))
    const values = [all, needed, next, wanted - newestFirst.length, leftMs, MAX_PAGE_BYTES - bytes]
    const rows: SearchRow[] = await query<SearchRow>(SEARCH, values)
    stand ??= rows[0]
    const messages = rows.flatMap((row) => (row.id === null ? [] : [row]))
    newestFirst.push(...messages.map(toMessage))
    for (const { text } of messages) bytes += Buffer.byteLength(text)
    const isCut = messages.length < (messages[0]?.total ?? 0)
    next = isCut ? (messages.at(-1)?.id ?? null) : (rows[0]?.next_below ?? null)
    const isEnough = isCut || newestFirst.length >= wanted || bytes >= MAX_PAGE_BYTES
    if (next === null || isEnough || performance.now() > deadline || signal.aborted) break
  }
  return {
    messages: newestFirst.reverse(),
    cursor: stand?.cursor ?? 0,
    isComplete: stand?.is_complete ?? false,
    next: next === null || newestFirst.length >= wanted ? undefined : next
  }
}
