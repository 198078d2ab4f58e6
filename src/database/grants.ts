import { type Client, DatabaseError, escapeIdentifier, escapeLiteral } from 'pg'
import { StartError } from '../lib/start-error.ts'
import type { Query } from './query.ts'

const UNDEFINED_OBJECT = '42704'

// Only tables that the migrating role owns: with MIGRATE=own, the shared tables belong to Django's role.
const OWN_TABLES = `
  select relname from pg_catalog.pg_class
  where relnamespace = (select oid from pg_catalog.pg_namespace where nspname = current_schema())
    and relkind in ('r', 'p') and relname like 'chat\\_%' and pg_catalog.pg_has_role(relowner, 'USAGE')
  order by relname`

/** SQL condition: a function that statements of the service call. Trigger functions need no right. */
const IS_CALLED = "proname like 'chat\\_%' and prorettype <> 'pg_catalog.trigger'::regtype"

const OWN_FUNCTIONS = `
  select oid::regprocedure::text as signature from pg_catalog.pg_proc
  where pronamespace = (select oid from pg_catalog.pg_namespace where nspname = current_schema())
    and ${IS_CALLED} and pg_catalog.pg_has_role(proowner, 'USAGE')
  order by 1`

/** All tables of the service but the list of applied migrations, which only the migrating role needs. */
export const TABLES = [
  'chat_user',
  'chat_message',
  'chat_event',
  'chat_message_detail',
  'chat_message_key',
  'chat_message_search',
  'chat_moderation_log',
  'chat_replica_key',
  'chat_report',
  'chat_restriction',
  'chat_room',
  'chat_search_state',
  'chat_slow_mode',
  'chat_token',
  'chat_user_role',
  'chat_user_skeleton',
  'chat_user_skeleton_queue'
]

const RIGHTS = ['select', 'insert', 'update', 'delete']

// A table that does not exist yet has no rights that could be missing.
const MISSING_RIGHTS = `
  select format('usage on schema %I', nspname) as missing, 0 as nth from pg_catalog.pg_namespace
  where pg_catalog.to_regclass('chat_event') is null and not pg_catalog.has_schema_privilege(oid, 'usage')
    and exists (
      select from pg_catalog.pg_class where relnamespace = pg_namespace.oid and relname = 'chat_event'
    )
  union all
  select format('%s on %s', string_agg(right_name, ', ' order by needed.nth), name), expected.nth
  from unnest($1::text[]) with ordinality as expected (name, nth)
  join pg_catalog.pg_class on pg_class.oid = pg_catalog.to_regclass(name)
  cross join unnest($2::text[]) with ordinality as needed (right_name, nth)
  where not pg_catalog.has_table_privilege(pg_class.oid, right_name)
  group by name, expected.nth
  union all
  select format('execute on %s', string_agg(proname, ', ' order by proname)), cardinality($1::text[]) + 1
  from pg_catalog.pg_proc join pg_catalog.pg_class on pg_class.oid = pg_catalog.to_regclass('chat_event')
  where pronamespace = relnamespace and ${IS_CALLED}
    and not pg_catalog.has_function_privilege(pg_proc.oid, 'execute')
  having count(*) > 0
  order by nth`

/** Finds out which rights the service's own role lacks, such as `insert, delete on chat_report`. */
export async function findMissingRights(query: Query): Promise<string[]> {
  const rows = await query<{ missing: string }>(MISSING_RIGHTS, [TABLES, RIGHTS])
  return rows.map(({ missing }) => missing)
}

/**
 * Grants a role what the service needs: access to the tables and functions that exist and, by default
 * privileges, to those of later migrations. Granting a privilege again does nothing.
 * @throws {StartError} if the role does not exist
 */
export async function grantRights(client: Client, role: string): Promise<void> {
  const { rows } = await client.query<{ schema: string }>('select current_schema() as schema')
  const { rows: tables } = await client.query<{ relname: string }>(OWN_TABLES)
  const { rows: functions } = await client.query<{ signature: string }>(OWN_FUNCTIONS)
  const [{ schema = 'public' } = {}] = rows
  const [inSchema, to] = [escapeIdentifier(schema), escapeIdentifier(role)]
  const rights = RIGHTS.join(', ')
  try {
    await client.query(`
      begin;
      grant usage on schema ${inSchema} to ${to};
      ${tables.map(({ relname }) => `grant ${rights} on ${escapeIdentifier(relname)} to ${to};`).join('\n')}
      ${functions.map(({ signature }) => `grant execute on function ${signature} to ${to};`).join('\n')}
      alter default privileges in schema ${inSchema} grant ${rights} on tables to ${to};
      alter default privileges in schema ${inSchema} grant execute on functions to ${to};
      commit`)
  } catch (error) {
    if (!(error instanceof DatabaseError) || error.code !== UNDEFINED_OBJECT) throw error
    throw new StartError(
      `MIGRATE_GRANT_TO is ${escapeLiteral(role)}, but the database has no such role: create it first`,
      { cause: error }
    )
  }
}
