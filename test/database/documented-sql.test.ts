import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type pg from 'pg'
import t, { type Test } from 'tap'
import { Retention } from '../../src/chat/retention.ts'
import { migrate } from '../../src/database/migrate.ts'
import { TABLES } from '../../src/database/grants.ts'
import { createQuery } from '../../src/database/query.ts'
import { type Service, startService } from '../helpers/app.ts'
import { admin, connect, createDatabase } from '../helpers/database.ts'
import { quiet } from '../helpers/quiet.ts'

/** The SQL block of a page in docs/ that has these words in it. */
function documentedSql(page: string, words: string): string {
  const text = readFileSync(new URL(`../../docs/${page}`, import.meta.url), 'utf8')
  const blocks = [...text.matchAll(/```sql\n([^`]*)```/g)].map(([, sql = '']) => sql)
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

type User = Awaited<ReturnType<Service['register']>>

/** A database whose tables belong to another role than the one that the service logs in as. */
async function startAsGuest(t: Test) {
  const role = `chat_guest_${randomBytes(6).toString('hex')}`
  t.teardown(() => admin(`drop role if exists ${role}`))
  const database = await createDatabase(t)
  const owner = await connect(t, database)
  await migrate(owner, quiet)
  const grants = documentedSql('database.md', 'grant usage').replaceAll('chat_service', role)
  await owner.query(`revoke create on schema public from public; create role ${role} login password 'x'`)
  await owner.query(grants)
  const settings = { POSTGRES_DB: database, POSTGRES_USER: role, POSTGRES_PASSWORD: 'x' }
  const restart = () => startService(t, { ...settings, MIGRATE: 'off' })
  const service = await restart()
  const [root, alice] = [await service.register(), await service.register()]
  await owner.query("insert into chat_user_role (user_id, role) values ($1, 'admin')", [root.userId])
  const guest = await connect(t, database, { user: role, password: 'x' })
  return { ...service, owner, role, guest, root, alice, restart }
}

type Request = [status: number, operation: string, token: string, body?: object]

/** One request to each route that reads or writes the database, in an order in which all succeed. */
function requestsOf(root: User, alice: User, id: number, reported: number): Request[] {
  const user = `/api/users/${alice.userId}`
  const passwords = { currentPassword: 'correct horse', newPassword: 'battery staple' }
  return [
    [200, 'GET /health/readyz', ''],
    [201, 'POST /api/messages', alice.token, { text: 'a reply', replyTo: id }],
    [200, `PATCH /api/messages/${id}`, alice.token, { text: 'hi' }],
    [204, `POST /api/messages/${reported}/report`, root.token, { reason: 'spam' }],
    [200, 'GET /api/reports', root.token],
    [404, 'DELETE /api/reports/1000', root.token],
    [200, `GET /api/messages/${id}`, ''],
    [200, `GET /api/messages?before_id=${id}`, ''],
    [200, 'GET /api/search?q=hello', ''],
    [200, `DELETE /api/messages/${id}`, root.token],
    [201, 'POST /api/tokens', alice.token, { name: 'bot' }],
    [200, 'GET /api/tokens', alice.token],
    [404, 'DELETE /api/tokens/1000', alice.token],
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
    [204, 'PUT /api/password', alice.token, passwords],
    [204, 'DELETE /api/me', alice.token, { password: 'battery staple' }]
  ]
}

t.test('the rights in docs/database.md are enough for every kind of request', async (t) => {
  const { call, post, guest, root, alice, logs } = await startAsGuest(t)
  const { id } = await post(alice.token, 'hello')
  const { id: reported } = await post(alice.token, 'buy this')
  for (const [status, operation, token, body] of requestsOf(root, alice, id, reported)) {
    const [method = '', path = ''] = operation.split(' ')
    const answer = await call(method, path, { ...(token && { token }), ...(body && { body }) })
    t.equal(answer.status, status, `${operation}: ${JSON.stringify(answer.body)}`)
  }
  const limits = { RETENTION_DAYS: 1, EVENT_RETENTION_HOURS: 1 }
  await t.resolves(new Retention(createQuery(guest), limits, quiet).trim(), 'retention')
  t.notOk(
    logs.some(({ msg }) => /lacks rights/.test(String(msg))),
    'the start finds nothing missing'
  )
})

t.test('a right that the role lacks is named at the start, and what needs it is 503', async (t) => {
  const { call, post, owner, role, root, alice, restart } = await startAsGuest(t)
  const { id } = await post(alice.token, 'hello')
  const { id: reported } = await post(alice.token, 'buy this')
  const requests: Request[] = [
    ...requestsOf(root, alice, id, reported),
    [201, 'POST /api/register', '', { nickname: 'bob', password: 'correct horse' }],
    [200, 'POST /api/login', '', { nickname: alice.nickname, password: 'correct horse' }]
  ]
  // These would end the sessions that the others need, or wait for a second.
  const repeated = requests.filter(([, operation]) => !/DELETE .api.me|password|readyz/.test(operation))
  /** Sends all requests and expects that none of them is 500. @returns the codes of those with 503 */
  const findOutages = async (without: string) => {
    const answers = repeated.map(async ([, operation, token, body]) => {
      const [method = '', path = ''] = operation.split(' ')
      const answer = await call(method, path, { ...(token && { token }), ...(body && { body }) })
      t.not(answer.status, 500, `${operation} without ${without}`)
      return answer.status === 503 ? [answer.body.code] : []
    })
    return new Set((await Promise.all(answers)).flat())
  }
  const all = 'select, insert, update, delete'
  for (const table of TABLES) {
    await owner.query(`revoke ${all} on ${table} from ${role}`)
    const codes = await findOutages(`rights on ${table}`)
    await owner.query(`grant ${all} on ${table} to ${role}`)
    codes.delete('database_unavailable')
    t.strictSame(codes, new Set(), table)
  }
  await owner.query("alter table chat_event rename room to other; update chat_room set topic = 'other'")
  t.ok((await findOutages('a column of a migration')).has('database_unavailable'))
  await owner.query('alter table chat_event rename other to room')

  await owner.query(
    `revoke select on chat_message_search from ${role}; revoke insert, delete on chat_report from ${role}`
  )
  const findLacking = async () => {
    const { logs } = await restart()
    return logs.filter(({ msg }) => /lacks rights/.test(String(msg))).map(({ msg }) => msg)
  }
  t.match(await findLacking(), [/select on chat_message_search; insert, delete on chat_report$/])
  await owner.query('revoke execute on function chat_resign, chat_create_token from public')
  t.match(await findLacking(), [/insert, delete on chat_report; execute on chat_create_token, chat_resign$/])
  await owner.query(`revoke usage on schema public from public, ${role}`)
  t.match(await findLacking(), [/: usage on schema public$/])
})

t.test('the SQL in docs/take-over.md that removes this service leaves nothing of it', async (t) => {
  const client = await connect(t, await createDatabase(t))
  await migrate(client, quiet)
  await client.query("insert into chat_user (nickname, password_hash) values ('kept', 'x')")
  t.not((await listOwnObjects(client)).length, 0)
  await client.query(documentedSql('take-over.md', 'drop table'))
  t.strictSame(await listOwnObjects(client), [])
  await client.query(
    "insert into chat_message (user_id, text) select id, 'from the Go service' from chat_user"
  )
  t.equal((await client.query('select from chat_message')).rowCount, 1, 'the shared tables still work')
})
