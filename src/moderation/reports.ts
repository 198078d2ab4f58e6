import type { Role } from '../../schemas/moderation.ts'
import { visibleMessages } from '../chat/messages.ts'
import type { Query } from '../database/query.ts'
import {
  Forbidden,
  MessageNotFound,
  ReportUnknown,
  SessionNotFound,
  UserNotFound
} from '../errors/catalogue.ts'

const REPORT = `
  with message as (
    select message.id from ${visibleMessages('and id = $2')}
  ), author as (
    select member.kind is not distinct from 'ban' as is_banned from chat_member($1) member
  ), reported as (
    insert into chat_report (message_id, user_id, reason)
    select message.id, $1, $3 from message, author where not is_banned
    on conflict (message_id, user_id) do nothing -- A taken id is an error: the sequence was set back.
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

// The role counts at this moment: it may have changed since the request began.
const CLOSE = `
  with moderator as materialized (
    select chat_moderator_role($1) as role
  ), closed as (
    update chat_report set closed_at = now() from moderator
    where id = $2 and closed_at is null and role in ('moderator', 'admin')
    returning message_id, reason
  ), logged as (
    insert into chat_moderation_log (moderator_id, action, message_id, details)
    select $1, 'close_report', message_id, jsonb_build_object('report', reason) from closed
  )
  select role, exists (select from closed) as "isClosed" from moderator`

/**
 * Closes a report.
 * @throws {SessionNotFound} if the moderator has been deleted or banned meanwhile
 * @throws {Forbidden} if the moderator has lost the role meanwhile
 * @throws {ReportUnknown} if there is no open report with this id
 */
export async function closeReport(query: Query, moderatorId: number, id: number): Promise<void> {
  const [row] = await query<{ role: Role | null; isClosed: boolean }>(CLOSE, [moderatorId, id])
  if (row?.role == null) throw new SessionNotFound()
  if (row.role === 'member') throw new Forbidden()
  if (!row.isClosed) throw new ReportUnknown()
}
