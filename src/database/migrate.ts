import type { Client } from 'pg'
import type { Log } from '../start.ts'
import { migrations } from './migrations.ts'

// Any constant that no other program on this database uses; the same for every replica.
const LOCK = 7_243_001

/**
 * Brings the database up to date, one transaction for each migration. Several processes may call it at once: an advisory
 * lock, which ends with the connection, lets one work while the others wait, and what was applied is never run again.
 * @param own leaves the shared tables to Django, and adds to them once they are there
 * @throws {Error} when they are not there yet, or another's transaction holds one of them for too long: to be tried again
 */
export async function migrate (client: Client, log: Log, own = false): Promise<void> {
  await client.query('select pg_advisory_lock($1)', [LOCK])
  if (own) {
    const { rows: [found] } = await client.query("select to_regclass('chat_user') is not null and to_regclass('chat_message') is not null as ready")
    if (!found.ready) throw new Error('the tables chat_user and chat_message are not there yet')
  }
  // On a live database, whoever writes waits behind us while we wait for a lock, so not for long.
  // `if not exists` would need the right to create tables even where this one is there.
  await client.query(`set lock_timeout = '1s'; do $$ begin if to_regclass('chat_backend_migration') is null then
    create table chat_backend_migration (name text primary key, applied_at timestamptz not null default now()); end if; end $$`)
  const { rows } = await client.query<{ name: string }>('select name from chat_backend_migration')
  const missing = migrations.filter(({ name, shared }) => !rows.some((row) => row.name === name) && !(own && shared))
  for (const { name, sql } of missing) {
    await client.query(`begin; ${sql}; insert into chat_backend_migration (name) values ('${name}'); commit`)
    log.info(`the database was migrated: ${name}`)
  }
  log.info('the database is up to date')
}
