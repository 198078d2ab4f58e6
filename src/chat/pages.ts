import type { ListMessagesQuery } from '../../schemas/messages.ts'
import type { Query } from '../database/query.ts'
import type { FairQueue } from '../lib/fair-queue.ts'
import { TimeoutError, withTimeout } from '../lib/timeout.ts'
import { Busy, DatabaseUnavailable } from '../errors/catalogue.ts'
import { findMessage, listMessages } from './messages.ts'
import { type OneMessage, type Page, type Timeline, toOneMessage, toPage } from './timeline.ts'

// A reader who can be given the last known page does not wait long for a better one.
const TIMEOUT_MS = 1000

/** Who reads: where reads of older messages take turns, and until when. */
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
 * Reads a page: from the Timeline; by SQL, where it is older or the log cannot be followed; from the Timeline
 * as it was last known, with its age, where there is no SQL either.
 * @param getReader is called where the page is not in memory
 * @throws {DatabaseUnavailable} when the last known tail does not have it
 * @throws {Busy} when too many wait for older pages
 */
export function readPage(
  sources: Sources,
  wanted: ListMessagesQuery,
  getReader: () => Reader
): Page | Promise<Page> {
  const { timeline, query } = sources
  return read(sources, timeline.page(wanted), getReader, async () => {
    const snapshot = await listMessages(query, wanted)
    return { ...toPage(snapshot), ...(snapshot.isReadOnly && { age: Math.floor(timeline.lag) }) }
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
