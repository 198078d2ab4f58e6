import type { ListMessagesQuery } from '../../schemas/messages.ts'
import type { Query } from '../database/query.ts'
import type { FairQueue } from '../lib/fair-queue.ts'
import { TimeoutError, withTimeout } from '../lib/timeout.ts'
import { Busy, DatabaseUnavailable } from '../errors/catalogue.ts'
import { findMessage, listMessages } from './messages.ts'
import { type OneMessage, type Page, type Timeline, toOneMessage, toPage } from './timeline.ts'

// If there is a stale page to fall back on, do not wait long for a fresh one.
const TIMEOUT_MS = 1000

/** The client: reads of older messages take turns by address. */
export interface Reader {
  address: string
  /** Aborts when the client goes away. */
  signal: AbortSignal
}

interface Sources {
  timeline: Timeline
  query: Query
  history: FairQueue
}

/**
 * Reads a page: from the Timeline; by SQL if the page is older or the Timeline is stale; and without
 * PostgreSQL from the stale Timeline, with its age.
 * @param getReader called only if the page is not in memory
 * @throws {DatabaseUnavailable} if the Timeline does not have the page either
 * @throws {Busy} if too many reads of older pages are waiting
 */
export function readPage(
  sources: Sources,
  wanted: ListMessagesQuery,
  getReader: () => Reader
): Page | Promise<Page> {
  const { timeline, query } = sources
  return read(sources, timeline.page(wanted), getReader, async () => {
    const snapshot = await listMessages(query, wanted)
    return { ...toPage(snapshot), ...(snapshot.isReadOnly && { age: timeline.age }) }
  })
}

/** Reads one message, in the same way. */
export function readMessage(
  sources: Sources,
  id: number,
  getReader: () => Reader
): OneMessage | Promise<OneMessage> {
  return read(sources, sources.timeline.message(id), getReader, async () =>
    toOneMessage(await findMessage(sources.query, id))
  )
}

function read<Found extends { age?: number }>(
  { history }: Sources,
  known: Found | undefined,
  getReader: () => Reader,
  readBySql: () => Promise<Found>
): Found | Promise<Found> {
  if (known && known.age === undefined) return known
  const { address, signal } = getReader()
  const found = history.run(address, signal, readBySql)
  if (!known) return found
  return withTimeout(TIMEOUT_MS, found).catch((error) => {
    if (error instanceof DatabaseUnavailable || error instanceof TimeoutError || error instanceof Busy) {
      return known
    }
    throw error
  })
}
