import t, { type Test } from 'tap'
import type { Config } from '../../src/config.ts'
import { SearchIndexer } from '../../src/search/indexer.ts'
import { Stemmer } from '../../src/search/stemmer.ts'
import { connectionOptions } from '../../src/plugins/postgres.ts'
import { createQuery } from '../../src/database/query.ts'
import { migrate } from '../../src/database/migrate.ts'
import { startService } from '../helpers/app.ts'
import { config, connect, createDatabase } from '../helpers/database.ts'
import { waitUntil } from '../helpers/raw.ts'
import { externalEngines, failedStart, startServer } from '../helpers/server.ts'
import { quiet } from '../helpers/quiet.ts'

/** A database with messages of which none is indexed. */
async function fullDatabase(t: Test, count: number) {
  const database = await createDatabase(t)
  const migrating = await connect(t, database)
  await migrate(migrating, quiet)
  await migrating.end()
  const client = await connect(t, database)
  await client.query("insert into chat_user (nickname, password_hash) values ('alice', 'x')")
  const add = (count: number) =>
    client.query(
      "insert into chat_message (user_id, text) select 1, 'number ' || n from generate_series(1, $1::int) n",
      [count]
    )
  await add(count)
  const indexed = async (): Promise<number> => {
    const { rows } = await client.query(`
      select count(*)::int as count from chat_message_search indexed join chat_message on id = message_id`)
    return rows[0].count
  }
  return { database, client, add, indexed }
}

async function found(url: string, q: string): Promise<{ ids: number[]; isIncomplete: boolean }> {
  const response = await fetch(`${url}/api/search?q=${encodeURIComponent(q)}`)
  const messages: { id: number }[] = JSON.parse(await response.text())
  const isIncomplete = response.headers.get('x-search-incomplete') === 'true'
  return { ids: messages.map(({ id }) => id), isIncomplete }
}

const isSearching = (url: string) => async () => (await found(url, 'number')).isIncomplete

t.test('existing messages are indexed, and a restart continues where it stopped', async (t) => {
  const { database, client, indexed } = await fullDatabase(t, 20_000)
  const start = (overrides: Partial<Config> = {}) => startService(t, { POSTGRES_DB: database, ...overrides })
  const first = await start()
  t.ok(await isSearching(first.url)(), 'the answer says that it is incomplete')
  await waitUntil('some are indexed', async () => (await indexed()) > 1000)
  await first.app.close()
  const { rows } = await client.query('select below from chat_search_state')
  const done = await indexed()
  t.ok(done < 20_000, `${done} were indexed when it stopped`)
  t.ok(rows[0].below < 20_000 && rows[0].below > 0, `it goes on before ${rows[0].below}`)

  const second = await start()
  await waitUntil('all are indexed', async () => !(await isSearching(second.url)()), 60_000)
  t.equal(await indexed(), 20_000)
  const last = second.logs
    .map(({ msg }) => String(msg))
    .find((msg) => msg.startsWith('all messages are indexed'))
  const [, , seen = ''] = /: (\d+) of (\d+) were new/.exec(last ?? '') ?? []
  t.ok(Number(seen) > 0 && Number(seen) < 20_000, `${last}`)
})

t.test('one replica indexes; when it is killed, another continues', async (t) => {
  const { database, client, add, indexed } = await fullDatabase(t, 1500)
  const env = { ...externalEngines(), POSTGRES_DB: database }
  const replicas = [startServer(t, env), startServer(t, env)]
  const [url = ''] = await Promise.all(replicas.map(({ ready }) => ready))
  await waitUntil('all are indexed', async () => (await indexed()) === 1500, 30_000)
  const indexers = async (): Promise<number[]> => {
    const { rows } = await client.query(`
      select activity.pid from pg_locks lock join pg_stat_activity activity using (pid)
      where locktype = 'advisory' and classid = 7243006 and activity.datname = current_database()`)
    return rows.map(({ pid }) => pid)
  }
  t.equal((await indexers()).length, 1)
  const hasIndexed = () =>
    replicas.map(({ log }) => log.some((line) => line.includes('all messages are indexed')))
  await waitUntil('a log says so', () => hasIndexed().includes(true))
  const logged = hasIndexed()
  const leader = logged.indexOf(true)
  t.strictSame(logged.filter(Boolean), [true])
  replicas[leader]?.child.kill('SIGKILL')
  await replicas[leader]?.exited
  await add(50)
  await waitUntil('the other has indexed the rest', async () => (await indexed()) === 1550, 30_000)
  const survivor = leader === 0 ? await replicas[1]?.ready : url
  t.equal((await found(String(survivor), 'numbers')).ids.at(-1), 1550)
})

t.test('when the connection is lost or the log is reset, nothing is missed', async (t) => {
  const { database, client, add, indexed } = await fullDatabase(t, 100)
  const { logs, url } = await startService(t, { POSTGRES_DB: database })
  await waitUntil('all are indexed', async () => (await indexed()) === 100)
  await client.query(`select pg_terminate_backend(pid) from pg_stat_activity
    where application_name = 'chat-backend search' and datname = current_database()`)
  await add(10)
  await waitUntil('the rest is indexed', async () => (await indexed()) === 110)
  t.ok(logs.some(({ msg }) => String(msg).startsWith('cannot index messages for search')))

  // What no entry of the log tells: somebody has restored tables, or disabled the triggers for a while.
  await client.query('alter table chat_message disable trigger all')
  await client.query("update chat_message set text = 'changed' where id <= 20")
  await client.query('delete from chat_message where id > 20 and id <= 40')
  await client.query(
    'alter table chat_message enable always trigger chat_event_lock, enable always trigger chat_event_created, enable always trigger chat_event_updated, enable always trigger chat_event_deleted, enable always trigger chat_event_truncated'
  )
  await client.query("insert into chat_event (kind) values ('reset')")
  const count = async (q: string) => (await (await fetch(`${url}/api/search?q=${q}&limit=200`)).json()).length
  await waitUntil('the changed ones are found', async () => (await count('changed')) === 20)
  await waitUntil('the deleted ones are forgotten', async () => {
    const { rows } = await client.query('select from chat_message_search')
    return rows.length === 90
  })
  t.equal(await count('number'), 70)

  // The log was trimmed while nobody indexed.
  // All of it at once, before the indexer connects again.
  await client.query(`update chat_search_state set seq = 1;
    delete from chat_event where seq < (select max(seq) from chat_event);
    delete from chat_message_search where message_id > 50`)
  await client.query(`select pg_terminate_backend(pid) from pg_stat_activity
    where application_name = 'chat-backend search' and datname = current_database()`)
  await waitUntil('all are indexed again', async () => (await indexed()) === 90, 30_000)

  await client.query('truncate chat_message cascade')
  await waitUntil('everything is forgotten', async () => {
    const { rows } = await client.query('select from chat_message_search')
    return rows.length === 0
  })
})

t.test('after a change of languages all messages are indexed again', async (t) => {
  const { database, client, add, indexed } = await fullDatabase(t, 10)
  const one = await startService(t, { POSTGRES_DB: database, SEARCH_LANGUAGES: 'simple' })
  await waitUntil('all are indexed', async () => (await indexed()) === 10)
  const { rows: before } = await client.query('select words::text as words from chat_message_search')
  t.notMatch(before[0].words, /:number':\d+$/, 'without stems')
  await one.app.close()
  await client.query("update chat_message set text = 'Zahlen' where id = 1")
  const two = await startService(t, { POSTGRES_DB: database, SEARCH_LANGUAGES: 'German' })
  await add(1)
  const count = async () => (await (await fetch(`${two.url}/api/search?q=zahl`)).json()).length
  await waitUntil('words are found by their German stems', async () => (await count()) === 1)
  await waitUntil('all are indexed', async () => (await indexed()) === 11)
})

t.test('a language that PostgreSQL does not know ends the start with one line', async (t) => {
  const env = {
    ...externalEngines(),
    POSTGRES_DB: await createDatabase(t),
    SEARCH_LANGUAGES: 'english,klingon'
  }
  t.match(
    await failedStart(t, env),
    /^SEARCH_LANGUAGES names klingon, but PostgreSQL has stemmers for .*english.*russian/
  )
  t.match(
    await failedStart(t, { ...env, SEARCH_LANGUAGES: 'english;russian' }),
    'SEARCH_LANGUAGES must be languages such as english,russian, or simple, or off, not "english;russian"'
  )
})

t.test('when the table of the index cannot be used, everything but search works', async (t) => {
  const { app, call, logs, post, register } = await startService(t)
  const { token } = await register()
  await app.sql('alter table chat_message_search rename to elsewhere')
  const { id } = await post(token, 'anybody?')
  t.match(await call('GET', '/api/search?q=anybody'), { status: 503, body: { code: 'database_unavailable' } })
  t.equal((await call('GET', '/health/readyz')).status, 200)
  t.equal((await call('DELETE', `/api/messages/${id}`, { token })).status, 200)
  await post(token, 'anybody else?')
  await waitUntil('the log says so', () =>
    logs.some(({ msg }) => String(msg).startsWith('cannot index messages for search'))
  )
  const { body: metrics } = await call('GET', '/metrics')
  t.match(metrics, /^chat_search_index_lag [1-9]/m, 'and so do the metrics')
  await app.sql('alter table elsewhere rename to chat_message_search')
  await waitUntil('it goes on', async () => (await call('GET', '/api/search?q=anybody')).body.length === 1)
})

const LOCK = "7243006, 'chat_message_search'::regclass::oid::int"

t.test('while another connection holds the lock, nothing is indexed', async (t) => {
  const { database, indexed, client } = await fullDatabase(t, 10)
  const query = createQuery(await connect(t, database))
  let asked = 0
  const indexer = new SearchIndexer({
    query: (sql, values) => {
      asked++
      return query(sql, values)
    },
    connection: { ...connectionOptions(config), database },
    stemmer: new Stemmer(['english']),
    languages: ['english'],
    knownSeq: () => 0,
    log: quiet
  })
  await client.query(`select pg_advisory_lock(${LOCK})`)
  indexer.start()
  t.teardown(() => indexer.stop())
  await waitUntil('it has asked for the lock twice', () => asked > 1)
  t.equal(await indexed(), 0)
  await client.query(`select pg_advisory_unlock(${LOCK})`)
  await waitUntil('it has taken over', async () => (await indexed()) === 10)
})

t.test('a search says that it is incomplete when messages wait too long to be indexed', async (t) => {
  const { app, url, database, post, register } = await startService(t)
  const { token } = await register()
  await post(token, 'one')
  await waitUntil('it is found', async () => (await found(url, 'one')).ids.length === 1)
  t.equal((await found(url, 'one')).isIncomplete, false)
  await app.messageSearch!.indexer.stop()
  await post(token, 'two')
  t.strictSame(await found(url, 'two'), { ids: [], isIncomplete: false }, 'it may be in time')
  const client = await connect(t, database)
  await client.query("update chat_event set created_at = created_at - interval '11 s'")
  for (const q of ['one', 'two', '!!']) t.equal((await found(url, q)).isIncomplete, true, q)
})

t.test('rooms in two schemas of one database are both indexed', async (t) => {
  const database = await createDatabase(t)
  const client = await connect(t, database)
  for (const schema of ['one', 'two']) await client.query(`create schema ${schema}`)
  const { POSTGRES_HOST, POSTGRES_PORT, POSTGRES_USER, POSTGRES_PASSWORD } = config
  for (const schema of ['one', 'two']) {
    const { url, post, register } = await startService(t, {
      POSTGRES_DB: database,
      POSTGRES_URL:
        `postgres://${POSTGRES_USER}:${POSTGRES_PASSWORD}@${POSTGRES_HOST}:${POSTGRES_PORT}/${database}` +
        `?options=-c%20search_path%3D${schema}`
    })
    const { token } = await register()
    const { id } = await post(token, `in room ${schema}`)
    await waitUntil(`it is found in ${schema}`, async () => (await found(url, schema)).ids[0] === id)
  }
})

t.test('messages with ids that are not exact in JSON do not stop the index', async (t) => {
  const { database, url, post, register } = await startService(t)
  const { token } = await register()
  const client = await connect(t, database)
  for (const id of ['9223372036854775807', '-9223372036854775808', '9007199254740993']) {
    await client.query('insert into chat_message (id, user_id, text) select $1, id, $2 from chat_user', [
      id,
      'elsewhere'
    ])
    await client.query('delete from chat_message where id = $1', [id])
    const posted = await post(token, `after ${id}`)
    await waitUntil(`the next one is found`, async () => (await found(url, id)).ids[0] === posted.id)
  }
})

t.test('changes that cannot be indexed all at once are indexed in smaller parts', async (t) => {
  const { database, url, post, register } = await startService(t)
  const { token } = await register()
  const client = await connect(t, database)
  await client.query(`
    create function refuse_many () returns trigger language plpgsql as $$ begin
      if (select count(*) from added) > 50 then raise 'too many'; end if;
      return null;
    end $$;
    create trigger refuse_many after insert on chat_message_search referencing new table as added
      for each statement execute function refuse_many ()`)
  await client.query(
    "insert into chat_message (user_id, text) select id, 'one of many' from chat_user, generate_series(1, 150)"
  )
  const { id } = await post(token, 'last')
  await waitUntil('the last one is found', async () => (await found(url, 'last')).ids[0] === id, 30_000)
})
