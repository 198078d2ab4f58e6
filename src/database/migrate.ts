import type { Client } from 'pg'
import type { Log } from '../start.ts'
import { migrations } from './migrations.ts'

// Any constant that no other program on this database uses; the same for every replica.
const LOCK = 7_243_001

/**
 * Brings the database up to date, one transaction for each migration. Several processes may call it at once: an advisory
 * lock, which ends with the connection, lets one work while the others wait, and what was applied is never run again.
 */
export async function migrate (client: Client, log: Log): Promise<void> {
  await client.query('select pg_advisory_lock($1)', [LOCK])
  // `if not exists` would need the right to create tables even where this one is there.
  await client.query(`set lock_timeout = '30s'; do $$ begin if to_regclass('chat_backend_migration') is null then
    create table chat_backend_migration (name text primary key, applied_at timestamptz not null default now()); end if; end $$`)
  const { rows } = await client.query<{ name: string }>('select name from chat_backend_migration')
  for (const { name, sql } of migrations.filter(({ name }) => !rows.some((row) => row.name === name))) {
    await client.query(`begin; ${sql}; insert into chat_backend_migration (name) values ('${name}'); commit`)
    log.info(`the database was migrated: ${name}`)
  }
  log.info('the database is up to date')
}
