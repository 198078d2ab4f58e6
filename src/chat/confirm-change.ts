import { isDeepStrictEqual } from 'node:util'
import type { Message } from '../../schemas/messages.ts'
import type { Query } from '../database/query.ts'
import type { Follower } from './follower.ts'
import type { LogWatch } from './log-watch.ts'
import { findMessage } from './messages.ts'
import type { Timeline } from './timeline.ts'

interface Room {
  follower: Follower
  timeline: Timeline
  watch: LogWatch
}

/**
 * Resolves when a committed change is in the Timeline, so that its author sees it on this replica. A change
 * that is missing from the log is reported to the LogWatch, and pages then come from PostgreSQL. Never
 * throws, because the change is stored.
 * @param ids the messages that were changed
 * @param expected what each of them is now; undefined if they were deleted
 */
export async function confirmChange(
  { follower, timeline, watch }: Room,
  query: Query,
  ids: number[],
  expected: Message | undefined
): Promise<void> {
  await follower.caughtUp()
  const id = ids.find((id) => timeline.contradicts(id, expected))
  if (id === undefined) return
  try {
    // Someone else may have changed it since, so compare only if the row stays the same meanwhile.
    const before = await findMessage(query, id)
    await follower.caughtUp()
    if (!timeline.contradicts(id, before)) return
    const after = await findMessage(query, id)
    if (isDeepStrictEqual(before, after)) watch.missed([id])
  } catch {
    // Without PostgreSQL, the Timeline is stale, and says so.
  }
}
