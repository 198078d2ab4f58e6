import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type pg from 'pg'
import t, { type Test } from 'tap'
import { Retention } from '../../src/chat/retention.ts'
import { migrate } from '../../src/database/migrate.ts'
import { createQuery } from '../../src/database/query.ts'
import { startService } from '../helpers/app.ts'
import { admin, config, connect, createDatabase, ownUserIds } from '../helpers/database.ts'

const quiet = { info: () => {}, warn: () => {}, error: () => {} }
const runbook = readFileSync(new URL('../../docs/operations.md', import.meta.url), 'utf8')

/** The SQL block of docs/operations.md that has these words in it. */
function documentedSql(words: string): string {
  const blocks = [...runbook.matchAll(/```sql\n([^`]*)```/g)].map(([, sql = '']) => sql)
  return blocks.find((sql) => sql.includes(words)) ?? ''
}

/** Everything in the schema `public` that the migrations made, but for the two shared tables. */
const OWN_OBJECTS = `
  select 'function ' || proname as object from pg_proc where pronamespace = 'public'::regnamespace
  union all
  select 'trigger ' || tgname from pg_trigger
    where tgrelid in ('chat_user'::regclass, 'chat_message'::regclass) and not tgisinternal
  union all
  select 'relation ' || relname from pg_class
    where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'v', 'm', 'S')
      and relname !~ '^chat_(user|message)(_id_seq)?$'
  order by 1`

async function listOwnObjects(client: pg.Client): Promise<string[]> {
  const { rows } = await client.query<{ object: string }>(OWN_OBJECTS)
  return rows.map(({ object }) => object)
}

/** A database whose tables belong to another role than the one that the service logs in as. */
async function startAsGuest(t: Test) {
  const role = `chat_guest_${randomBytes(6).toString('hex')}`
  t.teardown(() => admin(`drop role if exists ${role}`))
  const database = await createDatabase(t)
  const owner = await connect(t, database)
  await migrate(owner, quiet)
  const grants = documentedSql('grant usage').replaceAll('chat_service', role)
  await owner.query(`revoke create on schema public from public; create role ${role} login password 'x'`)
  await owner.query(grants)
  await ownUserIds(database)
  const settings = { ...config, POSTGRES_DB: database, POSTGRES_USER: role, POSTGRES_PASSWORD: 'x' }
  const service = await startService(t, { ...settings, MIGRATE: 'off' })
  const [root, alice] = [await service.register(), await service.register()]
  await owner.query("insert into chat_user_role (user_id, role) values ($1, 'admin')", [root.userId])
  return { ...service, owner, guest: await connect(t, database, { user: role, password: 'x' }), root, alice }
}

t.test('the rights in docs/operations.md are enough for every kind of request', async (t) => {
  const { call, post, guest, root, alice } = await startAsGuest(t)
  const asked: [status: number, operation: string, token: string, body?: object][] = []
  const { id } = await post(alice.token, 'hello')
  const reported = await post(alice.token, 'buy this')
  const user = `/api/users/${alice.userId}`
  asked.push(
    [200, 'GET /health/readyz', ''],
    [201, 'POST /api/messages', alice.token, { text: 'a reply', replyTo: id }],
    [200, `PATCH /api/messages/${id}`, alice.token, { text: 'hi' }],
    [204, `POST /api/messages/${reported.id}/report`, root.token, { reason: 'spam' }],
    [200, 'GET /api/reports', root.token],
    [200, `GET /api/messages/${id}`, ''],
    [200, `GET /api/messages?before_id=${id}`, ''],
    [200, `DELETE /api/messages/${id}`, root.token],
    [201, 'POST /api/tokens', alice.token, { name: 'bot' }],
    [200, 'GET /api/tokens', alice.token],
    [200, 'GET /api/me', alice.token],
    [200, 'GET /api/room', ''],
    [200, 'PATCH /api/room', root.token, { topic: 'hello', slowModeSeconds: 1 }],
    [201, 'POST /api/messages', alice.token, { text: 'slowly' }],
    [200, `PUT ${user}/restriction`, root.token, { kind: 'mute' }],
    [403, 'POST /api/messages', alice.token, { text: 'muted' }],
    [200, 'GET /api/restrictions', root.token],
    [204, `DELETE ${user}/restriction`, root.token],
    [200, `PUT ${user}/role`, root.token, { role: 'moderator' }],
    [200, 'GET /api/moderation-log', root.token],
    [200, `DELETE ${user}/messages`, root.token],
    [
      204,
      'PUT /api/password',
      alice.token,
      { currentPassword: 'correct horse', newPassword: 'battery staple' }
    ],
    [204, 'DELETE /api/me', alice.token, { password: 'battery staple' }]
  )
  for (const [status, operation, token, body] of asked) {
    const [method = '', path = ''] = operation.split(' ')
    const answer = await call(method, path, { ...(token && { token }), ...(body && { body }) })
    t.equal(answer.status, status, `${operation}: ${JSON.stringify(answer.body)}`)
  }
  const limits = { RETENTION_DAYS: 1, EVENT_RETENTION_HOURS: 1 }
  await t.resolves(new Retention(createQuery(guest), limits, quiet).trim(), 'retention')
})

t.test('the SQL in docs/operations.md that removes this service leaves nothing of it', async (t) => {
  const client = await connect(t, await createDatabase(t))
  await migrate(client, quiet)
  await client.query("insert into chat_user (nickname, password_hash) values ('kept', 'x')")
  t.not((await listOwnObjects(client)).length, 0)
  await client.query(documentedSql('drop table'))
  t.strictSame(await listOwnObjects(client), [])
  await client.query(
    "insert into chat_message (user_id, text) select id, 'from the Go service' from chat_user"
  )
  t.equal((await client.query('select from chat_message')).rowCount, 1, 'the shared tables still work')
})
