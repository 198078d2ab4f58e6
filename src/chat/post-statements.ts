import { milliseconds } from '../database/query.ts'
import { refusalColumns } from '../moderation/refusals.ts'
import { isExact, joinDetails, messageColumns, visibleMessages } from './messages.ts'

/** SQL for a digest that shows whether a key is reused for the same message. Texts contain no NUL. */
const digest = (text: string, replyTo: string) => `sha256(
  convert_to(${text}, 'UTF8') || coalesce('\\x00'::bytea || convert_to(${replyTo}::text, 'UTF8'), ''))`

// A trigger of another program may discard a row, and an id that is not exact in JSON is shown to nobody.
// Then the null makes the whole statement fail, so that no post is answered with 201 in vain, or with the
// message of another post of its batch.
const CHECKED = `checked as (
    insert into chat_message_detail (message_id)
    select null from (select count(*) as n from message where ${isExact('id')}) stored
    where stored.n <> (select count(*) from author where refusal is null)
  )`

// `chat_admit` takes the lock that orders the ids, finds the authors, and decides which posts are accepted.
//
// clock_timestamp: the times of the messages ascend as their ids do, because it is read under that lock.
export const POST_ONE = `
  with author as materialized (
    select * from chat_admit(array[$1::bigint], true)
  ), message as (
    insert into chat_message (user_id, text, created_at)
    select user_id, $2, clock_timestamp() from author where refusal is null
    returning id, text, created_at
  ), ${CHECKED}, claimed as (
    insert into chat_message_key (user_id, key, message_id, digest)
    select $1, $3::text, id, ${digest('$2', '$4::bigint')} from message where $3::text is not null
  ), replying as (
    insert into chat_message_detail (message_id, reply_to)
    select id, $4::bigint from message where $4::bigint is not null
  )
  select author.n, message.id, author.nickname, message.text,
    ${milliseconds('message.created_at')} as created_ms,
    ${refusalColumns('author')}
  from author left join message on true`

// Ids are assigned in the order of the rows, so the n-th smallest id belongs to the n-th accepted row. They
// are matched as arrays, because only nested-loop joins are on (src/plugins/postgres.ts), which would compare
// all pairs.
export const POST_MANY = `
  with author as materialized (
    select * from chat_admit($1::bigint[], true)
  ), message as (
    insert into chat_message (user_id, text, created_at)
    select user_id, ($2::text[])[n], clock_timestamp() from author where refusal is null order by n
    returning id, text, created_at
  ), ${CHECKED}, posted as (
    select posted.* from
      (
        select array_agg(n order by n) as ns, array_agg(nickname order by n) as nicknames
        from author where refusal is null
      ) accepted,
      (
        select array_agg(id order by id) as ids, array_agg(text order by id) as texts,
          array_agg(created_at order by id) as times
        from message
      ) message,
      unnest(ns, nicknames, ids, texts, times) as posted (n, nickname, id, text, created_at)
  ), claimed as (
    insert into chat_message_key (user_id, key, message_id, digest)
    select ($1::bigint[])[n], ($3::text[])[n], id, ${digest('($2::text[])[n]', '($4::bigint[])[n]')}
    from posted
    where ($3::text[])[n] is not null
  ), replying as (
    insert into chat_message_detail (message_id, reply_to)
    select id, ($4::bigint[])[n] from posted where ($4::bigint[])[n] is not null
  )
  select n, id, nickname, text, ${milliseconds('created_at')} as created_ms,
    null as refusal, null as until_ms, null as wait
  from posted
  union all
  select n, null, nickname, null, null, ${refusalColumns('author')} from author where refusal is not null`

/** Finds the messages that earlier posts with the same keys stored. Banned users get none. */
export const FIND_CLAIMED = `
  select given.n, claimed.digest = ${digest('given.text', 'given.reply_to')} as is_same, ${messageColumns()}
  from unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[])
    with ordinality as given (user_id, text, key, reply_to, n)
  join chat_message_key claimed on claimed.user_id = given.user_id and claimed.key = given.key
  join lateral chat_member(given.user_id) member on member.kind is distinct from 'ban'
  cross join lateral (select message.* from ${visibleMessages('and id = claimed.message_id')}) message
  join chat_user author on author.id = message.user_id ${joinDetails()}`

/**
 * A key without its message claims nothing. It is left behind if the message was deleted while triggers were
 * disabled.
 */
export const RELEASE_KEY = `
  delete from chat_message_key key where user_id = $1 and key = $2
  and not exists (select from ${visibleMessages('and id = key.message_id')})`
