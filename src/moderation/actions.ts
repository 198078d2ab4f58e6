import type { Role } from '../../schemas/moderation.ts'
import type { Room, UpdateRoom } from '../../schemas/room.ts'
import type { Query } from '../database/query.ts'
import { accepted, type Outcome } from '../database/refusal.ts'
import {
  Forbidden,
  LastAdmin,
  OwnAccount,
  SessionNotFound,
  UserProtected,
  UserUnknown
} from '../errors/catalogue.ts'
import type { ActiveRestriction } from './members.ts'

// The refusals of the SQL functions in src/database/migrations.ts.
const refusals = {
  gone: SessionNotFound,
  forbidden: Forbidden,
  user_unknown: UserUnknown,
  own_account: OwnAccount,
  protected: UserProtected,
  last_admin: LastAdmin
}
type Answer = Outcome<keyof typeof refusals>

/** Who acts: the id of a moderator, or null for the operator, as in the moderation log. */
export type Moderator = number | null

/**
 * Restricts a user, replacing any other restriction. Once it resolves, the user cannot post any more. It does
 * not end sessions.
 * @throws {SessionNotFound | Forbidden | UserUnknown | OwnAccount | UserProtected | LastAdmin}
 */
export async function restrict(
  query: Query,
  moderator: Moderator,
  userId: number,
  { kind, until, reason }: ActiveRestriction
): Promise<void> {
  const [row] = await query<Answer>('select chat_restrict($1, $2, $3, $4, $5) as refusal', [
    moderator,
    userId,
    kind,
    until?.toISOString(),
    reason
  ])
  accepted(row, refusals)
}

/**
 * Lifts a user's restriction, if there is one.
 * @throws {SessionNotFound | Forbidden | UserUnknown | OwnAccount | UserProtected}
 */
export async function liftRestriction(query: Query, moderator: Moderator, userId: number): Promise<void> {
  const [row] = await query<Answer>('select chat_lift_restriction($1, $2) as refusal', [moderator, userId])
  accepted(row, refusals)
}

/** Gives a user a role. @throws {SessionNotFound | Forbidden | UserUnknown | LastAdmin} */
export async function setRole(query: Query, moderator: Moderator, userId: number, role: Role): Promise<void> {
  const [row] = await query<Answer>('select chat_set_role($1, $2, $3) as refusal', [moderator, userId, role])
  accepted(row, refusals)
}

/**
 * Changes settings of the room and adds a `room_updated` event to the log.
 * @returns the new settings
 * @throws {SessionNotFound | Forbidden}
 */
export async function updateRoom(
  query: Query,
  moderator: Moderator,
  { topic, slowModeSeconds, readOnly }: UpdateRoom,
  online: number
): Promise<Room> {
  const [row] = await query<Answer & { settings: Room }>(
    'select * from chat_update_room($1, $2, $3, $4, $5)',
    [moderator, topic, slowModeSeconds, readOnly, online]
  )
  return accepted(row, refusals).settings
}

/**
 * Records in the moderation log what is about to be done to a user.
 * @returns the id of the entry
 * @throws {SessionNotFound | Forbidden | UserUnknown | OwnAccount | UserProtected}
 */
export async function logAction(
  query: Query,
  moderator: Moderator,
  userId: number,
  action: 'delete_messages' | 'reset_password' | 'end_sessions'
): Promise<number> {
  const [row] = await query<Answer & { entry_id: number }>('select * from chat_log_moderation($1, $2, $3)', [
    moderator,
    userId,
    action
  ])
  return accepted(row, refusals).entry_id
}
