import { MAX_NICKNAME } from '../../schemas/accounts.ts'
import { milliseconds, type Query } from '../database/query.ts'
import { Busy, DatabaseUnavailable } from '../errors/catalogue.ts'
import { lookupNickname } from './nicknames.ts'
import type { SkeletonIndex } from './skeleton-index.ts'
import { skeletonDigests } from './skeletons.ts'

// How long a registration waits for the nicknames of other writers to be indexed.
const CATCH_UP_MS = 1000
const MAX_TRIES = 3

interface Row {
  id: number
  nickname: string
  /** Another program's table may allow a null. */
  password_hash: string | null
  created_ms: number
}

const COLUMNS = `id, nickname, password_hash, ${milliseconds('created_at')} as created_ms`

const toUser = (row: Row | undefined) =>
  row && {
    id: row.id,
    nickname: row.nickname,
    passwordHash: row.password_hash ?? '', // which no password matches
    createdAt: new Date(row.created_ms)
  }

/**
 * Adds a user, unless the nickname is taken or looks like another one. The database decides, so exactly one
 * of several simultaneous registrations succeeds.
 * @param repairSequences advances a sequence that was set back and hands out ids that are already in use
 * @returns the new id, or what is wrong with the nickname
 * @throws {Busy} while too many nicknames of other writers are not indexed yet
 * @throws {DatabaseUnavailable} while no new id is available
 */
export async function insertUser(
  query: Query,
  index: SkeletonIndex,
  nickname: string,
  passwordHash: string,
  repairSequences: () => Promise<unknown>
): Promise<number | 'taken' | 'similar'> {
  const digests = skeletonDigests(nickname)
  const started = performance.now()
  let tries = 0
  for (;;) {
    const [row] = await query<{ new_id: number; refusal: 'taken' | 'similar' | 'behind' | null }>(
      'select * from chat_user_register($1, $2, $3)',
      [nickname, passwordHash, digests]
    )
    if (row === undefined) throw new Error('a function of PostgreSQL returned no row')
    if (row.refusal === null) return row.new_id
    if (row.refusal === 'similar') return row.refusal
    if (row.refusal === 'taken') {
      // The conflict may be on another unique column, usually the id.
      const isTaken = await query('select from chat_user where nickname = $1', [nickname])
      if (isTaken.length > 0) return row.refusal
      tries++
      if (tries === MAX_TRIES) throw new DatabaseUnavailable()
      await repairSequences()
      continue
    }
    if (performance.now() - started > CATCH_UP_MS) throw new Busy()
    await index.workOffSome()
  }
}

/** Undoes a registration whose session could not be created. */
export const deleteUser = (query: Query, id: number) => query('delete from chat_user where id = $1', [id])

/** Undoes a registration whose result is unknown. No other user has the same hash, because it is salted. */
export const deleteNewUser = (query: Query, nickname: string, passwordHash: string) =>
  query('delete from chat_user where nickname = $1 and password_hash = $2', [nickname, passwordHash])

/** Finds a user by nickname, as typed or as this service stores it. */
export async function findUser(query: Query, nickname: string) {
  const { typed, normal } = lookupNickname(nickname)
  // A nickname longer than the column cannot exist.
  const spellings = [typed, normal].filter((spelling) => spelling.length <= MAX_NICKNAME * 2)
  const [row] = await query<Row>(
    `select ${COLUMNS} from chat_user
    where nickname = any($1) order by array_position($1::text[], nickname::text) limit 1`,
    [spellings]
  )
  return toUser(row)
}

export async function findUserById(query: Query, id: number) {
  const [row] = await query<Row>(`select ${COLUMNS} from chat_user where id = $1`, [id])
  return toUser(row)
}

/** Replaces a password hash, unless it has changed meanwhile. @returns whether it was replaced */
export async function replacePassword(
  query: Query,
  id: number,
  oldHash: string,
  newHash: string
): Promise<boolean> {
  const rows = await query(
    'update chat_user set password_hash = $3 where id = $1 and password_hash = $2 returning id',
    [id, oldHash, newHash]
  )
  return rows.length > 0
}

/** Sets a password hash unconditionally. */
export const setPassword = (query: Query, id: number, hash: string) =>
  query('update chat_user set password_hash = $2 where id = $1', [id, hash])
