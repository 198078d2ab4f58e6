import type { QueryResultRow } from 'pg'

/**
 * What is wrong, in a few words of English. `isSequence` if `REPAIR` can fix it while the service runs.
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
const MAX_SEQUENCE = 2 ** 52

// A function is this service's if its comment holds its fingerprint. So a replica of another version, which
// knows other functions, accepts those of the newest migration.
const fingerprint = (oid: string) => `(
  select 'chat-backend ' || md5(concat_ws(' ', prosrc, prosecdef, proconfig))
  from pg_catalog.pg_proc signed where signed.oid = ${oid})`

const functions = [...new Set(TRIGGERS.map(([, , name]) => name))]

/** Stores the fingerprints of the trigger functions, after a migration has created them. */
export const SIGN_FUNCTIONS = `
  do $$ declare found record; begin
    for found in select oid, oid::regprocedure as name from pg_catalog.pg_proc
      where pronamespace = current_schema()::regnamespace and proname = any ('{${functions}}')
    loop execute format('comment on function %s is %L', found.name, ${fingerprint('found.oid')}); end loop;
  end $$`

const behind = ([table = '', column = '']: string[]) => `
  select 'the sequence of ${table}.${column} is behind the table' as what, true as "isSequence"
  from pg_catalog.to_regclass('${table}') found,
    pg_catalog.pg_get_serial_sequence(found::text, '${column}') as sequence
  where pg_catalog.has_sequence_privilege(sequence, 'USAGE, SELECT')
    and coalesce(pg_catalog.pg_sequence_last_value(sequence), 0)
    < (select max(${column}) from ${table} where ${column} <= ${MAX_SEQUENCE})`

/**
 * Checks that every change of a message reaches the log: that tables, triggers and functions exist and are
 * enabled.
 */
export const CHECK_TRIGGERS = `
  select distinct what, false as "isSequence" from (
    select case
      when pg_catalog.to_regclass(relation) is null
        then format('there is no table %s', relation)
      when installed.oid is null
        then format('the trigger %s on %s is missing', name, relation)
      when installed.tgenabled not in ('O', 'A')
        then format('the trigger %s on %s is disabled', name, relation)
      when function.proname <> expected.function
        or pg_catalog.obj_description(function.oid, 'pg_proc') is distinct from ${fingerprint('function.oid')}
        then format('the function of the trigger %s on %s is not the one of this service', name, relation)
    end as what
    from (values ${TRIGGERS.map((names) => `('${names.join("', '")}')`).join(', ')})
      as expected (relation, name, function)
    left join pg_catalog.pg_trigger installed
      on installed.tgrelid = pg_catalog.to_regclass(relation) and installed.tgname = name
      and not installed.tgisinternal
    left join pg_catalog.pg_proc function on function.oid = installed.tgfoid
    union all
    select format('there is no table %s', relation)
    from unnest('{chat_event, chat_message_key, chat_message_detail}'::text[]) as relation
    where pg_catalog.to_regclass(relation) is null
  ) checked where what is not null`

/**
 * Checks whether a sequence was set back and would hand out ids that are already in use. The tables must
 * exist.
 */
export const CHECK_SEQUENCES = SEQUENCES.map(behind).join(' union all ')

const isInexact = (table: string) => `
  exists (select from ${table} where id > ${Number.MAX_SAFE_INTEGER})
  or exists (select from ${table} where id < -${Number.MAX_SAFE_INTEGER})`

/** Finds tables with ids of 2^53 or more, which are not exact in JSON. */
export const INEXACT_IDS = ['chat_message', 'chat_user']
  .map((table) => `select '${table}' as "table" where ${isInexact(table)}`)
  .join(' union all ')

/**
 * Advances sequences that are behind their tables, and makes all clients reload the room, unless the log
 * already has a reset after the entry `$1`.
 */
export const REPAIR = 'select chat_event_repair($1)'
