import { deleteMessagesOf } from '../chat/messages.ts'
import type { Query } from '../database/query.ts'
import { logAction, type Moderator } from './actions.ts'

// A batch holds up whoever writes for as long as it takes.
const BATCH = 500

/**
 * Deletes all messages of a user, in batches.
 * @param onDeleted told of each batch, by the ids
 * @returns how many there were
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
    isMore = ids.length > 0 // Fewer than a batch do not mean that it was the last.
  }
  await query('update chat_moderation_log set details = $2 where id = $1', [entryId, { deleted }])
  return deleted
}
