import { createHash, randomBytes } from 'node:crypto'
import type { ApiToken } from '../../schemas/accounts.ts'
import { milliseconds, type Query } from '../database/query.ts'
import { accepted, type Outcome } from '../database/refusal.ts'
import { SessionNotFound, TooManyApiTokens } from '../errors/catalogue.ts'

/** How many API tokens a user can have. */
export const MAX_API_TOKENS = 10

const PREFIX = 'chat_'

/** Tells an API token from a session token, which is hexadecimal. */
export const isApiToken = (token: string) => token.startsWith(PREFIX)

const digest = (token: string) => createHash('sha256').update(token).digest()

// The refusals of the SQL function chat_create_token (src/database/migrations.ts).
const refusals = { gone: SessionNotFound, too_many: TooManyApiTokens }

/**
 * Creates an API token for a user.
 * @returns its id and the token, which is not stored
 * @throws {SessionNotFound} if the user is deleted or banned
 * @throws {TooManyApiTokens}
 */
export async function createApiToken(
  query: Query,
  userId: number,
  name: string
): Promise<{ id: number; token: string }> {
  const token = PREFIX + randomBytes(32).toString('hex')
  const [created] = await query<Outcome<keyof typeof refusals> & { new_id: number }>(
    'select * from chat_create_token($1, $2, $3, $4)',
    [userId, name, digest(token), MAX_API_TOKENS]
  )
  return { id: accepted(created, refusals).new_id, token }
}

interface Row {
  id: number
  name: string
  created_ms: number
  used_ms: number | null
}

const toTime = (ms: number) => new Date(ms).toISOString()

/** Lists a user's API tokens, oldest first. */
export async function listApiTokens(query: Query, userId: number): Promise<ApiToken[]> {
  const rows = await query<Row>(
    `select id, name, ${milliseconds('created_at')} as created_ms,
      case when last_used_at is not null then ${milliseconds('last_used_at')} end as used_ms
    from chat_token where user_id = $1 order by id`,
    [userId]
  )
  return rows.map(({ id, name, created_ms: createdMs, used_ms: usedMs }) => ({
    id,
    name,
    createdAt: toTime(createdMs),
    lastUsedAt: usedMs === null ? null : toTime(usedMs)
  }))
}

/** Revokes one of a user's API tokens. @returns whether there was one with this id */
export async function revokeApiToken(query: Query, userId: number, id: number): Promise<boolean> {
  return (
    (await query('delete from chat_token where id = $1 and user_id = $2 returning id', [id, userId])).length >
    0
  )
}

/** Revokes all API tokens of a user. */
export async function revokeAllApiTokens(query: Query, userId: number): Promise<void> {
  await query('delete from chat_token where user_id = $1', [userId])
}

/**
 * Finds the user that an API token belongs to.
 * @returns the user's id; undefined if the token is unknown or the user is banned
 */
export async function findApiToken(query: Query, token: string): Promise<number | undefined> {
  const [row] = await query<{ user_id: number }>(
    `select token.user_id from chat_token token cross join lateral chat_member(token.user_id) member
    where token.digest = $1 and member.kind is distinct from 'ban'`,
    [digest(token)]
  )
  return row?.user_id
}

/** Records that an API token was used, at most once a minute. */
export async function noteApiTokenUse(query: Query, token: string): Promise<void> {
  await query(
    `update chat_token set last_used_at = now() where digest = $1
    and (last_used_at is null or last_used_at < now() - interval '1 minute')`,
    [digest(token)]
  )
}
