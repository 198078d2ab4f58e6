import { type Client, DatabaseError, escapeIdentifier, escapeLiteral } from 'pg'
import { StartError } from '../lib/start-error.ts'

const UNDEFINED_OBJECT = '42704'

// Only tables that the migrating role owns: with MIGRATE=own, the shared tables belong to Django's role.
const OWN_TABLES = `
  select relname from pg_catalog.pg_class
  where relnamespace = (select oid from pg_catalog.pg_namespace where nspname = current_schema()) and relkind in ('r', 'p')
    and relname like 'chat\\_%' and pg_catalog.pg_has_role(relowner, 'USAGE') order by relname`

/**
 * Grants a role what the service needs: access to the tables that exist and, by default privileges, to those
 * of later migrations. Granting a privilege again does nothing.
 * @throws {StartError} if the role does not exist
 */
export async function grantTables(client: Client, role: string): Promise<void> {
  const { rows } = await client.query<{ schema: string }>('select current_schema() as schema')
  const { rows: tables } = await client.query<{ relname: string }>(OWN_TABLES)
  const [{ schema = 'public' } = {}] = rows
  const [inSchema, to] = [escapeIdentifier(schema), escapeIdentifier(role)]
  const rights = 'select, insert, update, delete'
  try {
    await client.query(`
      begin;
      grant usage on schema ${inSchema} to ${to};
      ${tables.map(({ relname }) => `grant ${rights} on ${escapeIdentifier(relname)} to ${to};`).join('\n')}
      alter default privileges in schema ${inSchema} grant ${rights} on tables to ${to};
      commit`)
  } catch (error) {
    if (!(error instanceof DatabaseError) || error.code !== UNDEFINED_OBJECT) throw error
    throw new StartError(
      `MIGRATE_GRANT_TO is ${escapeLiteral(role)}, but the database has no such role: create it first`,
      { cause: error }
    )
  }
}
