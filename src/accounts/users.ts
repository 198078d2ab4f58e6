import { MAX_NICKNAME } from '../../schemas/accounts.ts'
import type { Query } from '../database/query.ts'
import { lookupNickname } from './nicknames.ts'

interface Row { id: number, nickname: string, password_hash: string }

const toUser = (row: Row | undefined) => row && { id: row.id, nickname: row.nickname, passwordHash: row.password_hash }

/** Adds a user. @returns the new id, or undefined when the nickname is taken: the unique constraint decides, not a look before */
export async function insertUser (query: Query, nickname: string, passwordHash: string): Promise<number | undefined> {
  const [row] = await query<Row>(`insert into chat_user (nickname, password_hash, created_at) values ($1, $2, now())
    on conflict do nothing returning id`, [nickname, passwordHash])
  return row?.id
}

/** Takes back a user who was added but could not be told. */
export const deleteUser = (query: Query, id: number) => query('delete from chat_user where id = $1', [id])

/** Finds a user by nickname, as typed or as this service stores it. */
export async function findUser (query: Query, nickname: string) {
  const { typed, normal } = lookupNickname(nickname)
  // What is longer than the column cannot be found, so it is not sent.
  const spellings = [typed, normal].filter((spelling) => spelling.length <= MAX_NICKNAME * 2)
  const [row] = await query<Row>(`select id, nickname, password_hash from chat_user
    where nickname = any($1) order by array_position($1::text[], nickname::text) limit 1`, [spellings])
  return toUser(row)
}

export async function findUserById (query: Query, id: number) {
  const [row] = await query<Row>('select id, nickname, password_hash from chat_user where id = $1', [id])
  return toUser(row)
}

/** Replaces a password hash. @returns whether it was still the one to be replaced */
export async function replacePassword (query: Query, id: number, oldHash: string, newHash: string): Promise<boolean> {
  const rows = await query('update chat_user set password_hash = $3 where id = $1 and password_hash = $2 returning id', [id, oldHash, newHash])
  return rows.length > 0
}
