import t from 'tap'
import { type Role, startModerated } from '../helpers/people.ts'

// What each of these is answered. A ban has ended the session of a banned user.
const COLUMNS = ['nobody', 'member', 'muted', 'banned', 'moderator', 'admin'] as const
type Column = (typeof COLUMNS)[number]

/** What a row acts on, by others than who asks but for `ownMessageId`. */
interface Targets {
  userId: number
  messageId: number
  ownMessageId: number
  reportId: number
}
type Row = [
  method: string,
  path: string | ((targets: Targets) => string),
  body: object | undefined,
  ...statuses: number[]
]

const mute = { kind: 'mute' }
const ban = { kind: 'ban' }
const ROWS: Row[] = [
  // method, path, body: nobody, member, muted, banned, moderator, admin
  ['GET', '/api/messages', undefined, 200, 200, 200, 200, 200, 200],
  ['GET', '/api/room', undefined, 200, 200, 200, 200, 200, 200],
  ['POST', '/api/messages', { text: 'hello' }, 401, 201, 403, 401, 201, 201],
  ['PATCH', ({ ownMessageId: id }) => `/api/messages/${id}`, { text: 'new' }, 401, 200, 403, 401, 200, 200],
  ['PATCH', ({ messageId: id }) => `/api/messages/${id}`, { text: 'new' }, 401, 404, 403, 401, 404, 404],
  ['DELETE', ({ ownMessageId: id }) => `/api/messages/${id}`, undefined, 401, 200, 200, 401, 200, 200],
  ['DELETE', ({ messageId: id }) => `/api/messages/${id}`, undefined, 401, 404, 404, 401, 200, 200],
  [
    'POST',
    ({ messageId: id }) => `/api/messages/${id}/report`,
    { reason: 'spam' },
    401,
    204,
    204,
    401,
    204,
    204
  ],
  ['GET', '/api/sessions', undefined, 401, 200, 200, 401, 200, 200],
  ['PATCH', '/api/room', { topic: 'news' }, 401, 403, 403, 401, 200, 200],
  ['PUT', ({ userId: id }) => `/api/users/${id}/restriction`, mute, 401, 403, 403, 401, 200, 200],
  ['PUT', ({ userId: id }) => `/api/users/${id}/restriction`, ban, 401, 403, 403, 401, 200, 200],
  ['DELETE', ({ userId: id }) => `/api/users/${id}/restriction`, undefined, 401, 403, 403, 401, 204, 204],
  ['DELETE', ({ userId: id }) => `/api/users/${id}/messages`, undefined, 401, 403, 403, 401, 200, 200],
  ['PUT', ({ userId: id }) => `/api/users/${id}/role`, { role: 'moderator' }, 401, 403, 403, 401, 403, 200],
  ['GET', '/api/restrictions', undefined, 401, 403, 403, 401, 200, 200],
  ['GET', '/api/moderation-log', undefined, 401, 403, 403, 401, 200, 200],
  ['GET', '/api/reports', undefined, 401, 403, 403, 401, 200, 200],
  ['DELETE', ({ reportId: id }) => `/api/reports/${id}`, undefined, 401, 403, 403, 401, 204, 204]
]

t.test('who may do what', async (t) => {
  const { call, client, registerAs } = await startModerated(t)
  const admin = await registerAs('admin')
  const restrict = async (userId: number, body: object) =>
    t.equal((await call('PUT', `/api/users/${userId}/restriction`, { token: admin.token, body })).status, 200)

  const roles: Record<Column, Role> = {
    nobody: 'member',
    member: 'member',
    muted: 'member',
    banned: 'member',
    moderator: 'moderator',
    admin: 'admin'
  }
  const writeTo = async (userId: number): Promise<number[]> => {
    const insert = `insert into chat_message (user_id, text) select $1, 'hello' from generate_series(1, $2) returning id`
    return (await client.query(insert, [userId, ROWS.length])).rows.map(({ id }) => id)
  }
  const report = async (messageIds: number[]): Promise<number[]> => {
    const insert = `insert into chat_report (message_id, user_id, reason) select unnest($1::bigint[]), $2, 'x' returning id`
    return (await client.query(insert, [messageIds, admin.userId])).rows.map(({ id }) => id)
  }
  for (const column of COLUMNS) {
    const [user, target] = [await registerAs(roles[column]), await registerAs('member')]
    const [own, others] = [await writeTo(user.userId), await writeTo(target.userId)]
    const reports = await report(others)
    if (column === 'muted') await restrict(user.userId, mute)
    if (column === 'banned') await restrict(user.userId, ban)
    const token = column === 'nobody' ? {} : { token: user.token }
    for (const [n, [method, path, body, ...statuses]] of ROWS.entries()) {
      const targets = {
        userId: target.userId,
        messageId: others[n]!,
        ownMessageId: own[n]!,
        reportId: reports[n]!
      }
      const url = typeof path === 'string' ? path : path(targets)
      const answer = await call(method, url, { ...token, ...(body && { body }) })
      t.equal(answer.status, statuses[COLUMNS.indexOf(column)], `${column}: ${method} ${url}`)
    }
  }
})

t.test('moderators act on members, admins on everybody', async (t) => {
  const { call, registerAs, post } = await startModerated(t)
  const [moderator, admin] = [await registerAs('moderator'), await registerAs('admin')]
  for (const role of ['member', 'moderator', 'admin'] as const) {
    for (const { token, isAllowed } of [
      { token: moderator.token, isAllowed: role === 'member' },
      { token: admin.token, isAllowed: true }
    ]) {
      const target = await registerAs(role)
      const { id } = await post(target.token, 'hello')
      const refused = { status: 403, body: { code: 'user_protected' } }
      const of = `/api/users/${target.userId}`
      const removed = await call('DELETE', `/api/messages/${id}`, { token })
      t.match(removed, isAllowed ? { status: 200 } : refused, `${role}: one message`)
      t.match(await call('DELETE', `${of}/messages`, { token }), isAllowed ? { status: 200 } : refused, role)
      for (const kind of ['mute', 'ban']) {
        const restricted = await call('PUT', `${of}/restriction`, { token, body: { kind } })
        t.match(restricted, isAllowed ? { status: 200, body: { kind } } : refused, `${role}: ${kind}`)
      }
      const lifted = await call('DELETE', `${of}/restriction`, { token })
      t.match(lifted, isAllowed ? { status: 204 } : refused, `${role}: lift`)
    }
  }
})
