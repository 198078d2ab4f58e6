import type { QueryResultRow } from 'pg'

/**
 * What is wrong, as an English sentence without a full stop; `isSequence` where `REPAIR` can mend it while
 * the service runs.
 */
export interface Problem extends QueryResultRow {
  what: string
  isSequence: boolean
}

const TRIGGERS = [
  ['chat_message', 'chat_event_lock', 'chat_event_lock'],
  ['chat_message', 'chat_event_created', 'chat_event_created'],
  ['chat_message', 'chat_event_updated', 'chat_event_updated'],
  ['chat_message', 'chat_event_deleted', 'chat_event_deleted'],
  ['chat_message', 'chat_event_truncated', 'chat_event_truncated'],
  ['chat_user', 'chat_event_lock', 'chat_event_lock'],
  ['chat_user', 'chat_event_renamed', 'chat_event_renamed']
]

const SEQUENCES = [
  ['chat_event', 'seq'],
  ['chat_message', 'id'],
  ['chat_user', 'id']
]

// Beyond it, an id is a stray: to go on from there would leave no room (JSON readers keep ids below 2^53
// exact).
export const MAX_SEQUENCE = 2 ** 52

// A function is the one of this service while its comment tells its fingerprint. So a replica of another
// version, which has other functions, is content with what the newest migration has made.
const fingerprint = (oid: string) => `(
  select 'chat-backend ' || md5(concat_ws(' ', prosrc, prosecdef, proconfig)) from pg_catalog.pg_proc signed where signed.oid = ${oid})`

/** Marks the functions of the triggers as this service's, after a migration has made them. */
export const SIGN_FUNCTIONS = `
  do $$ declare found record; begin
    for found in select oid, oid::regprocedure as name from pg_catalog.pg_proc
      where pronamespace = current_schema()::regnamespace and proname = any ('{${[...new Set(TRIGGERS.map(([, , name]) => name))]}}')
    loop execute format('comment on function %s is %L', found.name, ${fingerprint('found.oid')}); end loop;
  end $$`

const behind = ([table = '', column = '']: string[]) => `
  select 'the sequence of ${table}.${column} is behind the table' as what, true as "isSequence"
  from pg_catalog.to_regclass('${table}') found, pg_catalog.pg_get_serial_sequence(found::text, '${column}') as sequence
  where pg_catalog.has_sequence_privilege(sequence, 'USAGE, SELECT') and coalesce(pg_catalog.pg_sequence_last_value(sequence), 0)
    < (select max(${column}) from ${table} where ${column} <= ${MAX_SEQUENCE})`

/**
 * Asks whether every change of a message reaches the log: whether tables, triggers and functions are there
 * and in force.
 */
export const CHECK_TRIGGERS = `
  select what, false as "isSequence" from (
    select case
      when pg_catalog.to_regclass(expected.relation) is null then format('there is no table %s', expected.relation)
      when installed.oid is null then format('the trigger %s on %s is missing', expected.name, expected.relation)
      when installed.tgenabled not in ('O', 'A') then format('the trigger %s on %s is disabled', expected.name, expected.relation)
      when function.proname <> expected.function or pg_catalog.obj_description(function.oid, 'pg_proc') is distinct from ${fingerprint('function.oid')}
        then format('the function of the trigger %s on %s is not the one of this service', expected.name, expected.relation)
    end as what
    from (values ${TRIGGERS.map((names) => `('${names.join("', '")}')`).join(', ')}) as expected (relation, name, function)
    left join pg_catalog.pg_trigger installed
      on installed.tgrelid = pg_catalog.to_regclass(expected.relation) and installed.tgname = expected.name and not installed.tgisinternal
    left join pg_catalog.pg_proc function on function.oid = installed.tgfoid
    union all
    select format('there is no table %s', relation) from unnest('{chat_event, chat_message_key, chat_message_detail}'::text[]) as relation
    where pg_catalog.to_regclass(relation) is null
  ) checked where what is not null`

/**
 * Asks whether a sequence was set back, so that it gives numbers that were given before. The tables must be
 * there.
 */
export const CHECK_SEQUENCES = SEQUENCES.map(behind).join(' union all ')

const isInexact = (table: string) => `
  exists (select from ${table} where id > ${Number.MAX_SAFE_INTEGER})
  or exists (select from ${table} where id < -${Number.MAX_SAFE_INTEGER})`

/** Asks which tables have ids of 2^53 or more, which JSON readers do not keep exact. */
export const INEXACT_IDS = ['chat_message', 'chat_user']
  .map((table) => `select '${table}' as "table" where ${isInexact(table)}`)
  .join(' union all ')

/**
 * Sets sequences that are behind to where their tables are, and makes all clients load the room again, unless
 * the log has told them to after the entry `$1`.
 */
export const REPAIR = 'select chat_event_repair($1)'
