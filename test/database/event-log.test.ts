import type pg from 'pg'
import t, { type Test } from 'tap'
import { migrate } from '../../src/database/migrate.ts'
import { connect, createDatabase } from '../helpers/database.ts'
import { quiet } from '../helpers/quiet.ts'
import { waitUntil } from '../helpers/raw.ts'

/** A database that is up to date, with one user whose id is 1. */
async function room(t: Test) {
  const database = await createDatabase(t)
  const client = await connect(t, database)
  await migrate(client, quiet)
  await client.query("insert into chat_user (nickname, password_hash) values ('alice', 'x')")
  return { client, another: () => connect(t, database) }
}

const INSERT = 'insert into chat_message (user_id, text, created_at) values (1, $1, now()) returning id'
const log = async (client: pg.Client) =>
  (
    await client.query("select kind || ' ' || message_id as entry from chat_event where seq > 1 order by seq")
  ).rows.map(({ entry }) => entry)

t.test('every way to change a message is logged, row by row, in order', async (t) => {
  const { client } = await room(t)
  for (const [sql, entries] of [
    [
      "insert into chat_message (user_id, text, created_at) values (1, 'a', now()), (1, 'b', now()), (1, 'c', now())",
      ['message_created 1', 'message_created 2', 'message_created 3']
    ],
    [
      "copy chat_message (user_id, text, created_at) from program 'printf ''1\\td\\tnow\\n1\\te\\tnow\\n'''",
      ['message_created 4', 'message_created 5']
    ],
    ["update chat_message set text = 'x' where id in (2, 4)", ['message_updated 2', 'message_updated 4']],
    ["update chat_message set text = 'x' where id = 2", []],
    ["update chat_message set text = 'x' where id = 99", []],
    ['update chat_message set id = 50 where id = 5', ['message_deleted 5', 'message_created 50']],
    [
      "insert into chat_message (id, user_id, text, created_at) values (2, 1, 'y', now()) on conflict (id) do update set text = excluded.text",
      ['message_updated 2']
    ],
    [
      "with gone as (delete from chat_message where id = 3 returning id) insert into chat_message (user_id, text, created_at) select 1, 'after ' || id, now() from gone",
      ['message_created 6', 'message_deleted 3']
    ],
    ['delete from chat_message where id < 5', ['message_deleted 1', 'message_deleted 2', 'message_deleted 4']]
  ] as [string, string[]][]) {
    const before = await log(client)
    await client.query(sql)
    t.strictSame((await log(client)).slice(before.length).sort(), entries.sort(), sql.slice(0, 60))
  }
})

t.test('a user with all messages: by cascade, and as Django does it', async (t) => {
  const { client } = await room(t)
  await client.query("insert into chat_user (nickname, password_hash) values ('bob', 'x')")
  for (const user of [1, 2]) {
    await client.query(
      "insert into chat_message (user_id, text, created_at) select $1, 'x', now() from generate_series(1, 2)",
      [user]
    )
  }
  await client.query(
    'begin; delete from chat_message where user_id = 1; delete from chat_user where id = 1; commit'
  )
  await client.query(`alter table chat_message drop constraint chat_message_user_id_fkey;
    alter table chat_message add foreign key (user_id) references chat_user on delete cascade`)
  await client.query('delete from chat_user where id = 2')
  t.strictSame((await log(client)).slice(4), [
    'message_deleted 1',
    'message_deleted 2',
    'message_deleted 3',
    'message_deleted 4'
  ])
})

t.test('the log has only what was committed: at once, complete and announced', async (t) => {
  const { client, another } = await room(t)
  const listener = await another()
  const announced: number[] = []
  listener.on('notification', ({ payload }) => announced.push(Number(payload)))
  await listener.query('listen chat_event')

  await client.query('begin')
  await client.query(INSERT, ['never'])
  await client.query('savepoint one')
  await client.query('rollback')
  await client.query('begin')
  const {
    rows: [{ id }]
  } = await client.query(INSERT, ['kept'])
  await client.query('savepoint one')
  await client.query(INSERT, ['undone'])
  await client.query('rollback to savepoint one')
  await client.query("update chat_message set text = 'changed' where id = $1", [id])
  t.strictSame(await log(listener), [], 'nothing before the commit')
  await client.query('commit')
  t.strictSame(await log(listener), [`message_created ${id}`, `message_updated ${id}`])
  const { rows } = await listener.query('select max(seq) as newest from chat_event')
  await waitUntil('the newest entry is announced', () => announced.at(-1) === rows[0].newest)
  t.ok(announced.length <= 2, 'one word for a statement')
})

t.test('ids and seqs become visible in order, however long a transaction takes', async (t) => {
  const { client, another } = await room(t)
  const [slow, fast] = [await another(), await another()]
  await slow.query('begin')
  const {
    rows: [{ id: first }]
  } = await slow.query(INSERT, ['slow'])
  const posted = fast.query(INSERT, ['fast'])
  const waiting =
    "select from pg_stat_activity where datname = current_database() and wait_event = 'advisory'"
  await waitUntil('the second waits', async () => (await client.query(waiting)).rowCount !== 0)
  t.strictSame((await client.query('select id from chat_message')).rows, [], 'the second waits for the first')
  await slow.query('commit')
  const {
    rows: [{ id: second }]
  } = await posted
  t.ok(first < second)
  t.strictSame(await log(client), [`message_created ${first}`, `message_created ${second}`])
})

t.test('no lock order of users and messages ends in a deadlock', async (t) => {
  const { client, another } = await room(t)
  await client.query(INSERT, ['before'])
  const [writer, admin] = [await another(), await another()]
  for (const sql of [
    "update chat_user set nickname = 'alice ' || clock_timestamp() where id = 1",
    'delete from chat_user where id = 7',
    'update chat_message set created_at = now()',
    'delete from chat_message where id = 99'
  ]) {
    await writer.query('begin')
    await writer.query(INSERT, ['held'])
    const changed = admin.query(sql)
    const waiting =
      "select from pg_stat_activity where datname = current_database() and wait_event = 'advisory'"
    await waitUntil('the change waits', async () => (await client.query(waiting)).rowCount !== 0)
    await writer.query(INSERT, ['more'])
    await writer.query('commit')
    await t.resolves(changed, sql)
  }
})

t.test('triggers write to the log without rights of the writer, whatever the search path', async (t) => {
  const { client, another } = await room(t)
  const role = `test_django_${process.pid}`
  await client.query(
    `create role ${role}; grant select, insert, update, delete on chat_message to ${role}; grant select on chat_user to ${role}`
  )
  const writer = await another()
  await writer.query(`set role ${role}; create temporary table chat_event (kind text, message_id bigint)`)
  await writer.query('set search_path to pg_temp')
  await writer.query(
    "insert into public.chat_message (user_id, text, created_at) values (1, 'from Django', now())"
  )
  t.strictSame(await log(client), ['message_created 1'])
  await writer.end()
  await client.query(`drop owned by ${role}; drop role ${role}`)
})

t.test('a message keeps its key when its id changes, even if several ids shift', async (t) => {
  const { client } = await room(t)
  for (const text of ['one', 'two', 'three']) await client.query(INSERT, [text])
  await client.query(
    "insert into chat_message_key (user_id, key, message_id, digest) select 1, text, id, '' from chat_message"
  )
  const keys = async () =>
    (
      await client.query(
        'select key, text from chat_message_key join chat_message on id = message_id order by 1'
      )
    ).rows
  const own = [
    { key: 'one', text: 'one' },
    { key: 'three', text: 'three' },
    { key: 'two', text: 'two' }
  ]
  await client.query('update chat_message set id = 100 where id = 1')
  t.strictSame(await keys(), own)
  await client.query(
    'alter table chat_message drop constraint chat_message_pkey, add primary key (id) deferrable'
  )
  await client.query(
    "update chat_message set id = case id when 100 then 2 when 2 then 3 else 100 end, text = text where text <> 'none'"
  )
  t.strictSame(await keys(), own)
})

t.test('a session that is writing notices a new column deleted_at at its next statement', async (t) => {
  const { client, another } = await room(t)
  const changes: [string, string[]][] = [
    ["update chat_message set deleted_at = now(), text = text || '!' where id = 1", ['message_deleted 1']],
    ["update chat_message set text = 'unseen' where id = 1", []],
    ['update chat_message set deleted_at = null where id = 1', ['message_created 1']],
    ['update chat_message set deleted_at = now() where id = 2', ['message_deleted 2']],
    ['delete from chat_message where id in (2, 3)', ['message_deleted 3']]
  ]
  for (const text of ['one', 'two', 'three']) await client.query(INSERT, [text])
  await client.query("update chat_message set text = text || '?'")
  await client.query('delete from chat_message where id = 99')
  await client.query(
    "insert into chat_message_key (user_id, key, message_id, digest) select 1, id, id, '' from chat_message"
  )
  await (await another()).query('alter table chat_message add column deleted_at timestamptz')
  for (const [sql, entries] of changes) {
    const before = await log(client)
    await client.query(sql)
    t.strictSame((await log(client)).slice(before.length), entries, sql)
  }
  t.strictSame(
    (await client.query('select message_id from chat_message_key')).rows,
    [],
    'a key lives as long as its message'
  )
})

t.test('the triggers also fire for replicated changes', async (t) => {
  const { client } = await room(t)
  await client.query('set session_replication_role = replica')
  await client.query(INSERT, ['replicated'])
  t.strictSame(await log(client), ['message_created 1'])
})
