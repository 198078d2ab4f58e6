import type { RestrictionKind, Role } from '../../schemas/moderation.ts'
import { milliseconds, type Query } from '../database/query.ts'
import { SessionNotFound, UserNotFound } from '../errors/catalogue.ts'

/** A restriction in force. Without `until` it is permanent. */
export interface ActiveRestriction {
  kind: RestrictionKind
  until: Date | undefined
  reason: string | undefined
}

/** What a user may do in the room. */
export interface Member {
  role: Role
  restriction: ActiveRestriction | undefined
  /** Whether this is the only admin. */
  isLastAdmin: boolean
}

interface Row {
  role: Role
  kind: RestrictionKind | null
  until_ms: number | null
  reason: string | null
  is_last_admin: boolean
}

const FIND_MEMBER = `
  select role, kind, reason, is_last_admin,
    case when until is not null then ${milliseconds('until')} end as until_ms
  from chat_member($1)`

const toRestriction = ({ kind, until_ms: untilMs, reason }: Row): ActiveRestriction | undefined =>
  kind === null
    ? undefined
    : { kind, until: untilMs === null ? undefined : new Date(untilMs), reason: reason ?? undefined }

/** Finds a user's role and the restriction in force. */
export async function findMember(query: Query, userId: number): Promise<Member | undefined> {
  const [row] = await query<Row>(FIND_MEMBER, [userId])
  if (row === undefined) return undefined
  return { role: row.role, restriction: toRestriction(row), isLastAdmin: row.is_last_admin }
}

/**
 * Finds the same for a user with a session.
 * @throws {UserNotFound} if the user is deleted
 * @throws {SessionNotFound} if the user is banned: the session is about to end, or the Go service started it
 * despite the ban
 */
export async function requireMember(query: Query, userId: number): Promise<Member> {
  const member = await findMember(query, userId)
  if (member === undefined) throw new UserNotFound()
  if (member.restriction?.kind === 'ban') throw new SessionNotFound()
  return member
}
