import { type Client, DatabaseError } from 'pg'
import type { Log } from '../lib/logger.ts'
import { CHECK_SEQUENCES, CHECK_TRIGGERS, type Problem, REPAIR, SIGN_FUNCTIONS } from './event-log-check.ts'
import { type Migration, migrations } from './migrations.ts'

const INSUFFICIENT_PRIVILEGE = '42501'
// No reset can be after the last possible entry, so the repair always adds one.
const EVERY_RESET = '9223372036854775807'

const USER_TRIGGERS = [
  'chat_user_created',
  'chat_user_renamed',
  'chat_user_deleted',
  'chat_user_truncated',
  'chat_member_deleted',
  'chat_members_truncated'
]
const FIND_USER_TRIGGERS = `
  select from pg_catalog.pg_trigger
  where tgrelid = pg_catalog.to_regclass('chat_user') and tgname = any ($1) and tgenabled in ('O', 'A')`

// An arbitrary constant that no other program uses on this database.
const LOCK = 7_243_001

/**
 * Applies the missing migrations, each in a transaction. Several processes may call it at once: an advisory
 * lock, which ends with the connection, lets one work while the others wait.
 * @param own leaves the shared tables to Django, and waits for them
 * @throws {Error} if they do not exist yet, or another transaction holds one of them for too long. Try again
 * then
 */
export async function migrate(client: Client, log: Log, own = false): Promise<void> {
  await client.query('select pg_advisory_lock($1)', [LOCK])
  if (own) {
    const {
      rows: [found]
    } = await client.query(
      "select to_regclass('chat_user') is not null and to_regclass('chat_message') is not null as ready"
    )
    if (!found.ready) throw new Error('the tables chat_user and chat_message are not there yet')
  }
  // While a migration waits for a lock, writers wait behind it, so give up soon.
  // `if not exists` needs the right to create tables even if the table exists.
  await client.query(`
    set lock_timeout = '1s';
    do $$ begin
      if to_regclass('chat_backend_migration') is null then
        create table chat_backend_migration (
          name text primary key, applied_at timestamptz not null default now()
        );
      end if;
    end $$`)
  const { rows } = await client.query<{ name: string }>('select name from chat_backend_migration')
  const applied = new Set(rows.map(({ name }) => name))
  const known = migrations.filter(({ shared }) => !(own && shared))
  for (const migration of known) {
    if (applied.has(migration.name)) continue
    const note = `insert into chat_backend_migration (name) values ('${migration.name}')`
    await client.query(
      `begin; ${migration.sql}; ${note}; ${migration.restores ? SIGN_FUNCTIONS : ''}; commit`
    )
    log.info(`applied the migration ${migration.name}`)
  }
  const isNewer = [...applied].some((name) => !migrations.some((migration) => migration.name === name))
  const restoring = isNewer ? [] : known.filter(({ restores }) => restores)
  await restore(client, log, restoring)
  if (!isNewer) await restoreUserTriggers(client, log, restoring)
  log.info('the database is up to date')
}

/**
 * Recreates what the log needs if somebody has dropped, disabled or replaced it, and makes all clients reload
 * the room.
 */
async function restore(client: Client, log: Log, restoring: Migration[]): Promise<void> {
  let problems = await findProblems(client)
  if (problems.length === 0) return
  log.warn(`the event log is incomplete: ${problems.join('; ')}`)
  await ifPermitted(client, async () => {
    await applyAgain(client, restoring)
    await client.query(REPAIR, [EVERY_RESET])
  })
  problems = await findProblems(client)
  if (problems.length === 0) log.warn('the event log was repaired')
  else log.error(`the event log could not be repaired: ${problems.join('; ')}`)
}

/**
 * Recreates the other triggers on chat_user if somebody has dropped or disabled them, and queues all
 * nicknames to be indexed.
 */
async function restoreUserTriggers(client: Client, log: Log, restoring: Migration[]): Promise<void> {
  const { rows } = await client.query(FIND_USER_TRIGGERS, [USER_TRIGGERS])
  if (rows.length === USER_TRIGGERS.length) return
  if (await ifPermitted(client, () => applyAgain(client, restoring))) {
    log.warn('triggers on chat_user were missing or disabled, and have been recreated')
  } else {
    log.error('triggers on chat_user are missing or disabled, and this role may not recreate them')
  }
}

async function applyAgain(client: Client, restoring: Migration[]): Promise<void> {
  for (const { sql } of restoring) await client.query(`begin; ${sql}; ${SIGN_FUNCTIONS}; commit`)
}

/** Does some work. @returns false if this role may not do it; what it had begun is rolled back then */
async function ifPermitted(client: Client, work: () => Promise<void>): Promise<boolean> {
  try {
    await work()
    return true
  } catch (error) {
    if (!(error instanceof DatabaseError) || error.code !== INSUFFICIENT_PRIVILEGE) throw error
    await client.query('rollback')
    return false
  }
}

async function findProblems(client: Client): Promise<string[]> {
  const { rows } = await client.query<Problem>(CHECK_TRIGGERS)
  const problems = rows.length > 0 ? rows : (await client.query<Problem>(CHECK_SEQUENCES)).rows
  return problems.map(({ what }) => what)
}
