import { DatabaseError } from 'pg'
import type { Query } from '../database/query.ts'
import { accepted, type Outcome } from '../database/refusal.ts'
import { InvalidCredentials, LastAdmin, SessionNotFound } from '../errors/catalogue.ts'

// A batch holds up whoever writes for as long as it takes.
const BATCH = 1000
const MAX_TRIES = 3
const FOREIGN_KEY_VIOLATION = '23503'

// What the functions of src/database/migrations.ts refuse a deletion with.
const refusals = { gone: SessionNotFound, password_changed: InvalidCredentials, last_admin: LastAdmin }
type Answer = Outcome<keyof typeof refusals>

const RESIGN = 'select chat_resign($1, $2) as refusal'
const DELETE_ACCOUNT = 'select * from chat_delete_account($1, $2)'
// Rows that have `deleted_at` set as well: they refer to the user.
const DELETE_MESSAGES = `
  with deleted as (
    delete from chat_message where id = any (array(select id from chat_message where user_id = $1 limit ${BATCH})) returning id
  ), reports as (
    delete from chat_report where message_id = any (array(select id from deleted))
  ), search as (
    delete from chat_message_search where message_id = any (array(select id from deleted))
  )
  select id from deleted`

/**
 * Deletes an account with its messages, API tokens, role, restriction and reports. Sessions are not ended
 * here. Should it fail on the way, the account is still there, and can be deleted again.
 * @param user with the hash of the password that was checked
 * @param onDeleted told of the messages of each batch, by the ids
 * @throws {SessionNotFound} when the user is deleted or banned meanwhile
 * @throws {InvalidCredentials} when the password is another one by now
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
    isMore = rows.length === BATCH // What is left then goes with the user.
  }
  const { message_ids: messageIds } = accepted(await deleteUserAndRest(query, values), refusals)
  onDeleted(messageIds)
}

async function deleteUserAndRest(query: Query, values: unknown[], tries = 1) {
  try {
    const [row] = await query<Answer & { message_ids: number[] }>(DELETE_ACCOUNT, values)
    return row
  } catch (error) {
    // Where the triggers of chat_message are not in force, a message may come in between.
    const isReferredTo = error instanceof DatabaseError && error.code === FOREIGN_KEY_VIOLATION
    if (!isReferredTo || tries === MAX_TRIES) throw error
    return deleteUserAndRest(query, values, tries + 1)
  }
}
