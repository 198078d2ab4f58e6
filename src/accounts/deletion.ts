import { DatabaseError } from 'pg'
import type { Query } from '../database/query.ts'
import { accepted, type Outcome } from '../database/refusal.ts'
import { InvalidCredentials, LastAdmin, SessionNotFound } from '../errors/catalogue.ts'

// Other writers wait while a batch is deleted.
const BATCH = 1000
const MAX_TRIES = 3
const FOREIGN_KEY_VIOLATION = '23503'

// The refusals of the SQL functions chat_resign and chat_delete_account (src/database/migrations.ts).
const refusals = { gone: SessionNotFound, password_changed: InvalidCredentials, last_admin: LastAdmin }
type Answer = Outcome<keyof typeof refusals>

const RESIGN = 'select chat_resign($1, $2) as refusal'
const DELETE_ACCOUNT = 'select * from chat_delete_account($1, $2)'
// Rows with `deleted_at` set must go as well, because they reference the user. Messages that were given to
// another user meanwhile stay; `is true` keeps PostgreSQL from reading all messages of the user for it.
const DELETE_MESSAGES = `
  with deleted as (
    delete from chat_message
    where id = any (array(select id from chat_message where user_id = $1 limit ${BATCH}))
      and (user_id = $1) is true
    returning id
  ), reports as (
    delete from chat_report where message_id = any (array(select id from deleted))
  ), search as (
    delete from chat_message_search where message_id = any (array(select id from deleted))
  )
  select id from deleted`

/**
 * Deletes an account with its messages, API tokens, role, restriction and reports, but not its sessions. If
 * it fails on the way, the account still exists and can be deleted again.
 * @param user with the password hash that was checked
 * @param onDeleted called with the message ids of each batch
 * @throws {SessionNotFound} if the user has been deleted or banned meanwhile
 * @throws {InvalidCredentials} if the password has changed meanwhile
 * @throws {LastAdmin}
 */
export async function deleteAccount(
  query: Query,
  user: { id: number; passwordHash: string },
  onDeleted: (messageIds: number[]) => void
): Promise<void> {
  const values = [user.id, user.passwordHash]
  const [resigned] = await query<Answer>(RESIGN, values)
  accepted(resigned, refusals)
  for (let isMore = true; isMore;) {
    const rows = await query<{ id: number }>(DELETE_MESSAGES, [user.id])
    onDeleted(rows.map(({ id }) => id))
    isMore = rows.length === BATCH // The rest is deleted with the user.
  }
  const { message_ids: messageIds } = accepted(await deleteUserAndRest(query, values), refusals)
  onDeleted(messageIds)
}

async function deleteUserAndRest(query: Query, values: unknown[], tries = 1) {
  try {
    const [row] = await query<Answer & { message_ids: number[] }>(DELETE_ACCOUNT, values)
    return row
  } catch (error) {
    // If the triggers of chat_message are disabled, a message may slip in.
    const isReferredTo = error instanceof DatabaseError && error.code === FOREIGN_KEY_VIOLATION
    if (!isReferredTo || tries === MAX_TRIES) throw error
    return deleteUserAndRest(query, values, tries + 1)
  }
}
