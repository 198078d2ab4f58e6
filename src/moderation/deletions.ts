import { deleteMessagesOf } from '../chat/messages.ts'
import type { Query } from '../database/query.ts'
import { logAction, type Moderator } from './actions.ts'

// Other writers wait while a batch is deleted.
const BATCH = 500

/**
 * Deletes all messages of a user, in batches.
 * @param onDeleted called with the ids of each batch
 * @returns how many were deleted
 * @throws {SessionNotFound | Forbidden | UserUnknown | OwnAccount | UserProtected}
 */
export async function deleteAllMessages(
  query: Query,
  moderator: Moderator,
  userId: number,
  onDeleted: (ids: number[]) => void
): Promise<number> {
  const entryId = await logAction(query, moderator, userId, 'delete_messages')
  let deleted = 0
  for (let isMore = true; isMore;) {
    const ids = await deleteMessagesOf(query, userId, BATCH)
    onDeleted(ids)
    deleted += ids.length
    isMore = ids.length > 0 // A batch that is not full need not be the last.
  }
  await query('update chat_moderation_log set details = $2 where id = $1', [entryId, { deleted }])
  return deleted
}
