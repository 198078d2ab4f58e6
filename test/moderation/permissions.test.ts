import t from 'tap'
import { type Role, startModerated } from '../helpers/people.ts'
import { waitUntil } from '../helpers/raw.ts'

// What each of these is answered. A ban has ended the sessions and tokens of a banned user. The last two send
// an API token of theirs.
const COLUMNS = [
  'nobody',
  'member',
  'muted',
  'banned',
  'moderator',
  'admin',
  'member token',
  'moderator token'
] as const
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
  statuses: string
]

const mute = { kind: 'mute' }
const ban = { kind: 'ban' }
const passwords = { currentPassword: 'correct horse', newPassword: 'correct horse' }
const own = ({ ownMessageId: id }: Targets) => `/api/messages/${id}`
const others = ({ messageId: id }: Targets) => `/api/messages/${id}`
const report = ({ messageId: id }: Targets) => `/api/messages/${id}/report`
const restriction = ({ userId: id }: Targets) => `/api/users/${id}/restriction`
const messages = ({ userId: id }: Targets) => `/api/users/${id}/messages`
const role = ({ userId: id }: Targets) => `/api/users/${id}/role`
const openReport = ({ reportId: id }: Targets) => `/api/reports/${id}`
const ROWS: Row[] = [
  //                                             nobody, member, muted, banned, moderator, admin, tokens
  ['GET', '/api/messages', undefined, '             200     200    200    200    200    200    200    200'],
  ['GET', others, undefined, '                      200     200    200    200    200    200    200    200'],
  ['GET', '/api/search?q=hello', undefined, '       200     200    200    200    200    200    200    200'],
  ['GET', '/api/room', undefined, '                 200     200    200    200    200    200    200    200'],
  ['POST', '/api/messages', { text: 'hello' }, '    401     201    403    401    201    201    201    201'],
  ['PATCH', own, { text: 'new' }, '                 401     200    403    401    200    200    200    200'],
  ['PATCH', others, { text: 'new' }, '              401     404    403    401    404    404    404    404'],
  ['DELETE', own, undefined, '                      401     200    200    401    200    200    200    200'],
  ['DELETE', others, undefined, '                   401     404    404    401    200    200    404    404'],
  ['POST', report, { reason: 'spam' }, '            401     204    204    401    204    204    403    403'],
  ['GET', '/api/me', undefined, '                   401     200    200    401    200    200    200    200'],
  ['GET', '/api/sessions', undefined, '             401     200    200    401    200    200    403    403'],
  ['DELETE', '/api/sessions/x', undefined, '        401     404    404    401    404    404    403    403'],
  ['DELETE', '/api/sessions', undefined, '          401     204    204    401    204    204    403    403'],
  ['PUT', '/api/password', passwords, '             401     204    204    401    204    204    403    403'],
  ['GET', '/api/tokens', undefined, '               401     200    200    401    200    200    403    403'],
  ['POST', '/api/tokens', { name: 'bot' }, '        401     201    201    401    201    201    403    403'],
  ['DELETE', '/api/tokens/1000', undefined, '       401     404    404    401    404    404    403    403'],
  ['PATCH', '/api/room', { topic: 'news' }, '       401     403    403    401    200    200    403    403'],
  ['PUT', restriction, mute, '                      401     403    403    401    200    200    403    403'],
  ['PUT', restriction, ban, '                       401     403    403    401    200    200    403    403'],
  ['DELETE', restriction, undefined, '              401     403    403    401    204    204    403    403'],
  ['DELETE', messages, undefined, '                 401     403    403    401    200    200    403    403'],
  ['PUT', role, { role: 'moderator' }, '            401     403    403    401    403    200    403    403'],
  ['GET', '/api/restrictions', undefined, '         401     403    403    401    200    200    403    403'],
  ['GET', '/api/moderation-log', undefined, '       401     403    403    401    200    200    403    403'],
  ['GET', '/api/reports', undefined, '              401     403    403    401    200    200    403    403'],
  ['DELETE', openReport, undefined, '               401     403    403    401    204    204    403    403'],
  ['DELETE', '/api/me', { password: 'wrong' }, '    401     401    401    401    401    401    403    403'],
  // The last one, because it ends the session.
  ['POST', '/api/logout', undefined, '              401     204    204    204    204    204    403    403']
]

// Everybody may ask for these, whoever they are.
const OPEN = [
  'GET /api/docs',
  'GET /api/events',
  'GET /api/openapi.json',
  'POST /api/login',
  'POST /api/register'
]

t.test('the table has every route of the API', async (t) => {
  const { call } = await startModerated(t)
  const { paths } = (await call('GET', '/api/openapi.json')).body
  const documented = Object.entries<object>(paths)
    .filter(([path]) => path.startsWith('/api/'))
    .flatMap(([path, operations]) =>
      Object.keys(operations).map((method) => `${method.toUpperCase()} ${path.replaceAll(/{.*?}/g, '1')}`)
    )
  const targets: Targets = { userId: 1, messageId: 1, ownMessageId: 1, reportId: 1 }
  const toRoute = ([method, path]: Row) =>
    `${method} ${typeof path === 'string' ? path : path(targets)}`
      .replace(/\?.*/, '')
      .replace(/\/(x|1000)$/, '/1')
  const known = [...new Set(ROWS.map(toRoute)), ...OPEN]
  t.strictSame(known.toSorted(), documented.toSorted())
})

t.test('each role can do what it may, and nothing else', async (t) => {
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
    admin: 'admin',
    'member token': 'member',
    'moderator token': 'moderator'
  }
  const writeTo = async (userId: number): Promise<number[]> => {
    const insert = `insert into chat_message (user_id, text) select $1, 'hello' from generate_series(1, $2) returning id`
    return (await client.query(insert, [userId, ROWS.length])).rows.map(({ id }) => id)
  }
  const reportAll = async (messageIds: number[]): Promise<number[]> => {
    const insert = `insert into chat_report (message_id, user_id, reason) select unnest($1::bigint[]), $2, 'x' returning id`
    return (await client.query(insert, [messageIds, admin.userId])).rows.map(({ id }) => id)
  }
  for (const column of COLUMNS) {
    const [user, target] = [await registerAs(roles[column]), await registerAs('member')]
    const [ownIds, othersIds] = [await writeTo(user.userId), await writeTo(target.userId)]
    const newest = `/api/messages/${othersIds.at(-1)}`
    await waitUntil('the replica has them', async () => (await call('GET', newest)).status === 200)
    const reports = await reportAll(othersIds)
    if (column === 'muted') await restrict(user.userId, mute)
    if (column === 'banned') await restrict(user.userId, ban)
    const token =
      column.endsWith(' token') &&
      (await call('POST', '/api/tokens', { token: user.token, body: { name: 'bot' } })).body.token
    const sent = column === 'nobody' ? {} : { token: token || user.token }
    for (const [n, [method, path, body, statuses]] of ROWS.entries()) {
      const targets = {
        userId: target.userId,
        messageId: othersIds[n]!,
        ownMessageId: ownIds[n]!,
        reportId: reports[n]!
      }
      const url = typeof path === 'string' ? path : path(targets)
      const answer = await call(method, url, { ...sent, ...(body && { body }) })
      const expected = statuses.trim().split(/ +/)[COLUMNS.indexOf(column)]
      t.equal(`${answer.status}`, expected, `${column}: ${method} ${url}`)
    }
  }
})

t.test('moderators act on members, admins on everyone', async (t) => {
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
