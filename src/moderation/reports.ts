import { visibleMessages } from '../chat/messages.ts'
import type { Query } from '../database/query.ts'
import { MessageNotFound, SessionNotFound, UserNotFound } from '../errors/catalogue.ts'

const REPORT = `
  with message as (
    select message.id from ${visibleMessages('and id = $2')}
  ), author as (
    select member.kind is not distinct from 'ban' as is_banned from chat_member($1) member
  ), reported as (
    insert into chat_report (message_id, user_id, reason)
    select message.id, $1, $3 from message, author where not is_banned on conflict do nothing
  )
  select (select is_banned from author) as "isBanned", exists (select from message) as "hasMessage"`

/**
 * Reports a message. A user's second report of the same message changes nothing.
 * @throws {UserNotFound} if the user is deleted
 * @throws {SessionNotFound} if the user is banned
 * @throws {MessageNotFound}
 */
export async function reportMessage(
  query: Query,
  userId: number,
  messageId: number,
  reason: string
): Promise<void> {
  const [row] = await query<{ isBanned: boolean | null; hasMessage: boolean }>(REPORT, [
    userId,
    messageId,
    reason
  ])
  if (row?.isBanned == null) throw new UserNotFound()
  if (row.isBanned) throw new SessionNotFound()
  if (!row.hasMessage) throw new MessageNotFound()
}

const CLOSE = `
  with closed as (
    update chat_report set closed_at = now() where id = $2 and closed_at is null returning message_id, reason
  )
  insert into chat_moderation_log (moderator_id, action, message_id, details)
  select $1, 'close_report', message_id, jsonb_build_object('report', reason) from closed returning id`

/** Closes a report. @returns whether it was open */
export async function closeReport(query: Query, moderatorId: number, id: number): Promise<boolean> {
  return (await query(CLOSE, [moderatorId, id])).length > 0
}
