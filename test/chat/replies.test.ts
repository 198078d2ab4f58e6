import t, { type Test } from 'tap'
import type { Message } from '../../schemas/messages.ts'
import { listMessages } from '../../src/chat/messages.ts'
import { startService } from '../helpers/app.ts'
import { connect } from '../helpers/database.ts'
import { waitUntil } from '../helpers/raw.ts'
import { openStream, type StreamEvent } from '../helpers/stream.ts'

async function start(t: Test) {
  const service = await startService(t)
  const { app, call, url } = service
  const { token, userId, nickname } = await service.register()
  const send = async (text: string, replyTo?: unknown, key?: string) =>
    call('POST', '/api/messages', {
      token,
      body: { text, ...(replyTo !== undefined && { replyTo }) },
      ...(key !== undefined && { headers: { 'idempotency-key': key } })
    })
  const page = async (query = ''): Promise<Message[]> => (await call('GET', `/api/messages${query}`)).body
  /** The newest messages, which memory, SQL and each message by itself must tell alike. */
  const shown = async () => {
    const { messages } = await listMessages(app.sql, { limit: 200 })
    const newest = await page('?limit=200')
    t.strictSame(newest, messages, 'memory and SQL agree')
    for (const message of newest) {
      t.strictSame((await call('GET', `/api/messages/${message.id}`)).body, message)
    }
    return newest
  }
  /** What a client knows that read the whole log from the entry `since` on. */
  const told = async (since: number) => {
    const stream = await openStream(t, url, `?since=${since}`)
    let events: StreamEvent[] = []
    await waitUntil('the stream is at the end', async () => {
      events = await stream.events(0)
      return (events.at(-1)?.id ?? 0) >= app.room.timeline.seq
    })
    stream.close()
    const messages = new Map<number, Message>()
    for (const { data } of events) {
      if (data.type === 'message_deleted') messages.delete(data.id)
      else messages.set(data.message.id, data.message)
    }
    return [...messages.values()]
  }
  const cursor = app.room.timeline.seq
  const sql = await connect(t, service.database)
  return { ...service, token, userId, nickname, send, page, shown, told, cursor, sql }
}

const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/

t.test('an edited message says when it was edited, whoever edits it', async (t) => {
  const { call, token, send, shown, told, cursor, sql } = await start(t)
  const ids: number[] = []
  for (const text of ['by API', 'by SQL', 'not at all', 'in vain', 'dated']) {
    const { body } = await send(text)
    t.notOk('editedAt' in body)
    ids.push(body.id)
  }
  const [byApi, bySql, untouched, inVain, dated] = ids
  const before = Date.now()
  const { body } = await call('PATCH', `/api/messages/${byApi}`, { token, body: { text: 'edited' } })
  t.match(body, { id: byApi, text: 'edited', editedAt: TIME })
  const editedAt = Date.parse(body.editedAt)
  t.ok(editedAt >= before - 1000 && editedAt <= Date.now() + 1000, 'it was edited now')
  await call('PATCH', `/api/messages/${inVain}`, { token, body: { text: 'in vain' } })
  await sql.query("update chat_message set text = 'edited' where id = $1", [bySql])
  await sql.query('update chat_message set text = text where id = $1', [untouched])
  await sql.query("update chat_message set created_at = '2020-01-01' where id = $1", [dated])
  await send('last')
  const messages = await shown()
  t.strictSame(
    messages.filter(({ editedAt }) => editedAt !== undefined).map(({ id }) => id),
    [byApi, bySql]
  )
  t.strictSame(messages[0], body, 'as the edit was answered')
  t.strictSame(await told(cursor), messages, 'and so do the events')

  await sql.query('update chat_message set id = id + 1000 where id = $1', [bySql])
  await send('after it moved')
  t.match(
    (await shown()).find(({ id }) => id === Number(bySql) + 1000),
    { text: 'edited', editedAt: TIME }
  )
  await sql.query('delete from chat_message')
  t.equal((await sql.query('select from chat_message_detail')).rowCount, 0, 'nothing is left of it')
})

t.test('a reply shows the message that it replies to, as that is now', async (t) => {
  const { call, token, userId, nickname, send, shown, told, cursor, sql } = await start(t)
  const { body: question } = await send('anybody here?')
  const { status, body: reply } = await send('yes', question.id)
  t.equal(status, 201)
  t.strictSame(reply.replyTo, { id: question.id, userId, nickname, text: 'anybody here?' })
  const { body: second } = await send('me too', reply.id)
  t.equal(second.replyTo.text, 'yes')
  t.strictSame(await shown(), [question, reply, second])
  t.strictSame(await told(cursor), [question, reply, second])

  await call('PATCH', `/api/messages/${question.id}`, { token, body: { text: '😀'.repeat(101) } })
  const edited = (await shown())[1]?.replyTo
  t.strictSame(edited, { id: question.id, userId, nickname, text: `${'😀'.repeat(99)}…` })
  await sql.query("update chat_message set text = '  as it is' || repeat(' ', 88) || '.' where id = $1", [
    question.id
  ])
  await send('and the log was read')
  t.equal((await shown())[1]?.replyTo?.text?.length, 99, 'a text that is short enough is not cut')

  await call('DELETE', `/api/messages/${question.id}`, { token })
  const [first] = await shown()
  t.strictSame(first, { ...reply, replyTo: { id: question.id, deleted: true } })
  await call('PATCH', `/api/messages/${reply.id}`, { token, body: { text: 'edited' } })
  const [orphan] = await shown()
  t.match(orphan, { text: 'edited', editedAt: TIME, replyTo: { id: question.id, deleted: true } })
  await sql.query('delete from chat_message where id = $1', [reply.id])
  await send('and again')
  t.strictSame((await shown())[0]?.replyTo, { id: reply.id, deleted: true })

  await sql.query("update chat_user set nickname = 'renamed'")
  const { body: last } = await send('last')
  const { body: renamed } = await send('to the last', last.id)
  t.equal(renamed.replyTo.nickname, 'renamed')
  await shown()
})

t.test(
  'a reply follows a message that is older than what is in memory, hidden and shown again',
  async (t) => {
    const { app, userId, send, shown, sql } = await start(t)
    await sql.query('alter table chat_message add column deleted_at timestamptz')
    const { body: old } = await send('old')
    await sql.query(
      "insert into chat_message (user_id, text, created_at) select $1, 'many', now() from generate_series(1, 2000)",
      [userId]
    )
    const { body: reply } = await send('reply', old.id)
    t.equal(app.room.timeline.message(old.id), undefined)
    const last = async () => {
      await send('and the log was read')
      return (await shown()).find(({ id }) => id === reply.id)?.replyTo
    }
    await sql.query("update chat_message set text = 'changed' where id = $1", [old.id])
    t.match(await last(), { text: 'changed' })
    await sql.query('update chat_message set deleted_at = now() where id = $1', [old.id])
    t.strictSame(await last(), { id: old.id, deleted: true })
    await sql.query('update chat_message set deleted_at = null where id = $1', [old.id])
    t.match(await last(), { text: 'changed' })
    await sql.query('delete from chat_message where id = $1', [old.id])
    t.strictSame(await last(), { id: old.id, deleted: true })
  }
)

t.test('a reply to a message that does not exist is refused, and null is not a reply', async (t) => {
  const { call, token, send, sql } = await start(t)
  const { body: gone } = await send('gone')
  await call('DELETE', `/api/messages/${gone.id}`, { token })
  await sql.query('alter table chat_message add column deleted_at timestamptz')
  const { body: hidden } = await send('hidden')
  await sql.query('update chat_message set deleted_at = now() where id = $1', [hidden.id])
  for (const id of [gone.id, hidden.id, 0, -1, 2 ** 53 - 1]) {
    t.match(await send('reply', id), { status: 400, body: { code: 'reply_to_not_found' } }, `${id}`)
  }
  for (const id of ['1', 1.5, true, [], {}, 2 ** 53, 1e300]) {
    t.match(await send('reply', id), { status: 400, body: { code: 'reply_to_invalid' } }, `${id}`)
  }
  const { status, body } = await send('no reply', null)
  t.equal(status, 201)
  t.notOk('replyTo' in body)
})

t.test(
  'the same key with another replyTo is refused, and with the same one gives the same reply',
  async (t) => {
    const { call, token, send } = await start(t)
    const { body: one } = await send('one')
    const { body: other } = await send('other')
    const { body: reply } = await send('reply', one.id, 'key')
    const error = 'Idempotency-Key was already used for a different message'
    for (const replyTo of [other.id, undefined]) {
      t.match(await send('reply', replyTo, 'key'), {
        status: 422,
        body: { code: 'idempotency_key_reused', error }
      })
    }
    t.match(await send('another text', one.id, 'key'), { status: 422 })
    const again = await send('reply', one.id, 'key')
    t.equal(again.headers.get('idempotency-replayed'), 'true')
    t.strictSame(again.body, reply)
    await send('no reply', undefined, 'plain')
    t.match(await send('no reply', one.id, 'plain'), { status: 422 })

    await call('DELETE', `/api/messages/${one.id}`, { token })
    const later = await send('reply', one.id, 'key')
    t.equal(later.headers.get('idempotency-replayed'), 'true', 'also when what it replies to is gone')
    t.strictSame(later.body, { ...reply, replyTo: { id: one.id, deleted: true } })
    t.match(await send('another text', one.id, 'key'), { status: 422 })
    t.match(await send('new', one.id, 'new'), { status: 400, body: { code: 'reply_to_not_found' } })
  }
)

t.test('many replies at once, among other messages, each to its own', async (t) => {
  const { send, shown } = await start(t)
  const ids: number[] = []
  for (let n = 0; n < 10; n++) ids.push((await send(`question ${n}`)).body.id)
  await Promise.all(
    Array.from({ length: 60 }, (_, n) =>
      n % 3 === 0 ? send(`plain ${n}`) : send(`reply ${n}`, ids[n % 10], `key ${n}`.replace(' ', '-'))
    )
  )
  const messages = (await shown()).slice(10)
  t.equal(messages.length, 60)
  for (const { text, replyTo } of messages) {
    const [kind, n] = text.split(' ')
    t.equal(replyTo?.text, kind === 'plain' ? undefined : `question ${Number(n) % 10}`)
  }
})
