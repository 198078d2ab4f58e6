import { visibleMessages } from '../chat/messages.ts'
import type { Query } from '../database/query.ts'

const REPORT = `
  with message as (
    select message.id from ${visibleMessages('and id = $2')}
  ), author as (
    select chat_user.id from chat_user where chat_user.id = $1 and not exists (
      select from chat_restriction restriction
      where restriction.user_id = chat_user.id and restriction.kind = 'ban'
        and (restriction.until is null or restriction.until > now())
    )
  ), reported as (
    insert into chat_report (message_id, user_id, reason)
    select message.id, author.id, $3 from message, author on conflict do nothing
  )
  select exists (select from author) as "hasUser", exists (select from message) as "hasMessage"`

/**
 * Reports a message. A user's second report of the same message changes nothing.
 * @returns whether both the user and the message exist
 */
export async function reportMessage(
  query: Query,
  userId: number,
  messageId: number,
  reason: string
): Promise<{ hasUser: boolean; hasMessage: boolean }> {
  const [row] = await query<{ hasUser: boolean; hasMessage: boolean }>(REPORT, [userId, messageId, reason])
  return row ?? { hasUser: false, hasMessage: false }
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
