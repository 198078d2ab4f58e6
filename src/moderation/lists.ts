import {
  type ModerationEntry,
  type PageQuery,
  type Report,
  type Restriction,
  type RestrictionKind,
  type Role,
  type UserRole
} from '../../schemas/moderation.ts'
import { MAX_PAGE } from '../../schemas/messages.ts'
import {
  joinDetails,
  MAX_PAGE_BYTES,
  messageColumns,
  type MessageRow,
  toMessage,
  visibleMessages
} from '../chat/messages.ts'
import { milliseconds, type Query } from '../database/query.ts'

interface Person {
  userId: number
  nickname?: string
}
const toPerson = (userId: number, nickname: string | null): Person => ({
  userId,
  ...(nickname !== null && { nickname })
})
const toTime = (ms: number) => new Date(ms).toISOString()

// Each list has one statement for the newest page and one for older pages. For a single statement, PostgreSQL
// would choose a plan that suits the worst case.
const page = (sql: (conditions: string) => string, id: string) => ({
  newest: `${sql('')} order by ${id} desc limit $1`,
  before: `${sql(`and ${id} < $2`)} order by ${id} desc limit $1`
})
const read = <Row extends object>(
  query: Query,
  { newest, before }: ReturnType<typeof page>,
  { limit, before_id: beforeId }: PageQuery
): Promise<Row[]> => {
  const size = Math.min(limit, MAX_PAGE)
  return beforeId === undefined ? query<Row>(newest, [size]) : query<Row>(before, [size, beforeId])
}

interface RestrictionRow {
  id: number
  user_id: number
  nickname: string
  kind: RestrictionKind
  until_ms: number | null
  reason: string | null
  created_ms: number
  moderator_id: number | null
  moderator: string | null
}

const restrictions = (conditions: string) => `
  select restriction.id, restriction.user_id, member.nickname, restriction.kind, restriction.reason,
    case when restriction.until is not null then ${milliseconds('restriction.until')} end as until_ms,
    ${milliseconds('restriction.created_at')} as created_ms,
    restriction.moderator_id, moderator.nickname as moderator
  from chat_restriction restriction
  join chat_user member on member.id = restriction.user_id
  left join chat_user moderator on moderator.id = restriction.moderator_id
  where ${conditions}`
const IN_FORCE = '(restriction.until is null or restriction.until > now())'

const toRestriction = (row: RestrictionRow): Restriction => ({
  id: row.id,
  userId: row.user_id,
  nickname: row.nickname,
  kind: row.kind,
  ...(row.until_ms !== null && { until: toTime(row.until_ms) }),
  ...(row.reason !== null && { reason: row.reason }),
  createdAt: toTime(row.created_ms),
  ...(row.moderator_id !== null && { moderator: toPerson(row.moderator_id, row.moderator) })
})

const RESTRICTIONS = page((conditions) => restrictions(`${IN_FORCE} ${conditions}`), 'restriction.id')
const LATEST_RESTRICTION_OF = restrictions('restriction.user_id = $1')
const RESTRICTION_OF = `${LATEST_RESTRICTION_OF} and ${IN_FORCE}`

/** Lists the restrictions in force, newest first. */
export const listRestrictions = async (query: Query, wanted: PageQuery): Promise<Restriction[]> =>
  (await read<RestrictionRow>(query, RESTRICTIONS, wanted)).map(toRestriction)

/** Finds the restriction in force for a user. */
export async function findRestriction(query: Query, userId: number): Promise<Restriction | undefined> {
  const [row] = await query<RestrictionRow>(RESTRICTION_OF, [userId])
  return row && toRestriction(row)
}

/** Finds the restriction of a user that was set last, even if it has ended, perhaps by another clock. */
export async function findLatestRestriction(query: Query, userId: number): Promise<Restriction | undefined> {
  const [row] = await query<RestrictionRow>(LATEST_RESTRICTION_OF, [userId])
  return row && toRestriction(row)
}

interface EntryRow {
  id: number
  created_ms: number
  action: string
  moderator_id: number | null
  moderator: string | null
  user_id: number | null
  nickname: string | null
  message_id: number | null
  reason: string | null
  details: object | null
}

const ENTRIES = page(
  (conditions) => `
  select entry.id, ${milliseconds('entry.created_at')} as created_ms, entry.action, entry.moderator_id,
    moderator.nickname as moderator, entry.user_id, member.nickname,
    entry.message_id, entry.reason, entry.details
  from chat_moderation_log entry
  left join chat_user moderator on moderator.id = entry.moderator_id
  left join chat_user member on member.id = entry.user_id
  where true ${conditions}`,
  'entry.id'
)

/** Lists the moderation log, newest first. */
export async function listModerationLog(query: Query, wanted: PageQuery): Promise<ModerationEntry[]> {
  const rows = await read<EntryRow>(query, ENTRIES, wanted)
  return rows.map((row) => ({
    id: row.id,
    createdAt: toTime(row.created_ms),
    action: row.action,
    ...(row.moderator_id !== null && { moderator: toPerson(row.moderator_id, row.moderator) }),
    ...(row.user_id !== null && { user: toPerson(row.user_id, row.nickname) }),
    ...(row.message_id !== null && { messageId: row.message_id }),
    ...(row.reason !== null && { reason: row.reason }),
    ...(row.details !== null && { details: row.details })
  }))
}

type ReportRow = MessageRow & {
  report_id: number
  report_reason: string
  reported_ms: number
  reporter_id: number
  reporter: string | null
}

// Newest first, until the texts exceed the bytes of a page.
const reports = (conditions: string) => `
  select message.report_id, message.report_reason, message.reported_ms, message.reporter_id,
    message.reporter, ${messageColumns('message', 'message')}
  from (
    select message.*, row_number() over by_report as n,
      sum(octet_length(message.text)) over by_report as bytes
    from (
      select report.id as report_id, report.reason as report_reason,
        ${milliseconds('report.created_at')} as reported_ms,
        report.user_id as reporter_id, reporter.nickname as reporter, message.*, author.nickname
      from chat_report report
      cross join lateral (select message.* from ${visibleMessages('and id = report.message_id')}) message
      join chat_user author on author.id = message.user_id
      left join chat_user reporter on reporter.id = report.user_id
      where report.closed_at is null ${conditions} order by report.id desc limit $1
    ) message window by_report as (order by message.report_id desc)
  ) message ${joinDetails()}
  where n = 1 or bytes <= ${MAX_PAGE_BYTES} order by message.report_id desc`

const REPORTS = { newest: reports(''), before: reports('and report.id < $2') }

/**
 * Lists the open reports of messages that still exist, newest first. If the texts are too long together,
 * there are fewer of them than wanted, but at least one.
 */
export async function listReports(query: Query, wanted: PageQuery): Promise<Report[]> {
  const rows = await read<ReportRow>(query, REPORTS, wanted)
  return rows.map((row) => ({
    id: row.report_id,
    reason: row.report_reason,
    createdAt: toTime(row.reported_ms),
    reporter: toPerson(row.reporter_id, row.reporter),
    message: toMessage(row)
  }))
}

/** Finds a user's role. */
export async function findUserRole(query: Query, userId: number): Promise<UserRole | undefined> {
  const [row] = await query<{ nickname: string; role: Role }>(
    `select chat_user.nickname, coalesce(member.role, 'member') as role
    from chat_user left join chat_user_role member on member.user_id = chat_user.id where chat_user.id = $1`,
    [userId]
  )
  return row && { userId, ...row }
}

/** A user who has a role, a restriction, or both. */
export interface Notable {
  nickname: string
  role: Role
  restriction: { kind: RestrictionKind; until: Date | undefined; reason: string | undefined } | undefined
}

interface NotableRow {
  nickname: string
  role: Role
  kind: RestrictionKind | null
  until_ms: number | null
  reason: string | null
}

const NOTABLE = `
  select chat_user.nickname, coalesce(member.role, 'member') as role, restriction.kind, restriction.reason,
    case when restriction.until is not null then ${milliseconds('restriction.until')} end as until_ms
  from (select user_id from chat_user_role union select user_id from chat_restriction) notable
  join chat_user on chat_user.id = notable.user_id
  left join chat_user_role member on member.user_id = chat_user.id
  left join chat_restriction restriction on restriction.user_id = chat_user.id
    and (restriction.until is null or restriction.until > now())
  where member.role is not null or restriction.kind is not null
  order by array_position(array['admin', 'moderator'], member.role), chat_user.nickname`

/** Lists all users with a role or a restriction in force: admins, then moderators, then the others. */
export async function listNotable(query: Query): Promise<Notable[]> {
  const rows = await query<NotableRow>(NOTABLE)
  return rows.map(({ nickname, role, kind, until_ms: untilMs, reason }) => ({
    nickname,
    role,
    restriction:
      kind === null
        ? undefined
        : { kind, until: untilMs === null ? undefined : new Date(untilMs), reason: reason ?? undefined }
  }))
}
