import type { PageOfMessages } from '../../schemas/messages.ts'
import type { Query } from '../database/query.ts'
import type { FairQueue } from '../lib/fair-queue.ts'
import { TimeoutError, withTimeout } from '../lib/timeout.ts'
import { Busy, DatabaseUnavailable } from '../errors/catalogue.ts'
import { listMessages } from './messages.ts'
import { type Page, type Timeline, toPage } from './timeline.ts'

// A reader who can be given the last known page does not wait long for a better one.
const PATIENCE_MS = 1000

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
  { timeline, query, history }: Sources,
  wanted: PageOfMessages,
  getReader: () => Reader
): Page | Promise<Page> {
  const known = timeline.page(wanted)
  if (known && known.age === undefined) return known
  const { address, signal } = getReader()
  const read = history.run(address, signal, async () => {
    const snapshot = await listMessages(query, wanted)
    return { ...toPage(snapshot), ...(snapshot.isReadOnly && { age: Math.floor(timeline.lag) }) }
  })
  if (!known) return read
  return withTimeout(PATIENCE_MS, read).catch((error) => {
    if (error instanceof DatabaseUnavailable || error instanceof TimeoutError || error instanceof Busy) {
      return known
    }
    throw error
  })
}
