import type { PageOfMessages } from '../../schemas/messages.ts'
import type { Query } from '../database/query.ts'
import { Late, within } from '../deadline.ts'
import { DatabaseUnavailable } from '../errors.ts'
import { listMessages } from './messages.ts'
import { type Page, type Timeline, toPage } from './timeline.ts'

// A reader who can be given the last known page does not wait long for a better one.
const PATIENCE_MS = 1000

/**
 * Reads a page: from the Timeline; by SQL, where it is older or the log cannot be followed; from the Timeline as it was
 * last known, with its age, where there is no SQL either.
 * @throws {DatabaseUnavailable} when the last known tail does not have it
 */
export function readPage (query: Query, timeline: Timeline, wanted: PageOfMessages): Page | Promise<Page> {
  const known = timeline.page(wanted)
  if (known && known.age === undefined) return known
  const read = listMessages(query, wanted).then(toPage)
  if (!known) return read
  return within(PATIENCE_MS, read).catch((error) => {
    if (error instanceof DatabaseUnavailable || error instanceof Late) return known
    throw error
  })
}
