import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import t from 'tap'
import { EventParser } from '../../client/event-parser.js'
import { ChatClient, ChatError } from '../../client/index.js'
import { startService } from '../helpers/app.ts'
import { connect } from '../helpers/database.ts'
import { startFollowing } from '../helpers/follow.ts'
import { startCuttingProxy } from '../helpers/hostile-proxy.ts'
import { startModerated } from '../helpers/people.ts'
import { startProxy } from '../helpers/proxy.ts'
import { waitUntil } from '../helpers/raw.ts'

/** Posts, edits, deletes, and changes the room. @returns what a follower must get, in short */
async function makeEvents(chat: ChatClient) {
  const { id } = await chat.postMessage({ text: 'one' })
  await chat.postMessage({ text: 'two' })
  await chat.editMessage({ id, text: 'one, edited' })
  await chat.deleteMessage({ id })
  await chat.updateRoom({ topic: 'tea' })
  return [
    'message_created: one',
    'message_created: two',
    'message_updated: one, edited',
    `message_deleted: ${id}`,
    'room_updated: tea'
  ]
}

t.test('follow() lists, and then gives every event as it happens', async (t) => {
  const service = await startModerated(t)
  const { token } = await service.registerAs('moderator')
  await service.post(token, 'zero')
  const { until, events, stop } = startFollowing(t, service.url)
  t.strictSame(await until(1), ['list: zero'])
  const expected = await makeEvents(new ChatClient({ url: service.url, token }))
  t.strictSame(await until(6), ['list: zero', ...expected])
  const cursors = events.map(({ cursor }) => cursor)
  t.strictSame(
    cursors,
    [...cursors].sort((a, b) => a - b)
  )
  await stop()
  await waitUntil('the stream is closed', () => service.app.room.streams.size === 0)

  const resumed = startFollowing(t, service.url, { since: cursors[2]! })
  t.strictSame(await resumed.until(3), expected.slice(2), 'a cursor is enough to go on')
})

t.test('follow() ends when its loop does, or its signal aborts, and leaves nothing open', async (t) => {
  const { app, url, register, post } = await startService(t)
  const { token } = await register()
  const chat = new ChatClient({ url })
  for await (const { type } of chat.follow()) {
    if (type === 'list') await post(token, 'one')
    else break
  }
  await waitUntil('the stream is closed', () => app.room.streams.size === 0)
  const controller = new AbortController()
  const iterator = chat.follow({ signal: controller.signal })
  await iterator.next()
  const next = iterator.next()
  await waitUntil('the stream is open', () => app.room.streams.size === 1)
  controller.abort()
  t.strictSame(await next, { done: true, value: undefined })
  await waitUntil('the stream is closed', () => app.room.streams.size === 0)
  t.strictSame(await chat.follow({ signal: AbortSignal.abort() }).next(), { done: true, value: undefined })
})

t.test('1,000 posts while connections are cut at random: every event once and in order', async (t) => {
  const { url, register, database } = await startService(t)
  const { token } = await register()
  const random = (from: number, to: number) => Math.floor(from + Math.random() * (to - from))
  // The first connections hardly get through a list; the later ones are cut within some event. All events are
  // some 200 KB, so each reader is cut at least three times.
  const readers = []
  for (let n = 0; n < 4; n++) {
    let connections = 0
    const proxy = await startCuttingProxy(t, url, () => random(0, Math.min(60_000, 20_000 * ++connections)))
    readers.push({ proxy, ...startFollowing(t, proxy.url) })
  }
  await Promise.all(readers.map(({ until }) => until(1)))
  const chat = new ChatClient({ url, token })
  const post = async (writer: number) => {
    for (let n = 0; n < 100; n++) {
      await chat.postMessage({ text: `${writer}: ${n} ${'é'.repeat(random(0, 50))}` })
    }
  }
  await Promise.all(Array.from({ length: 10 }, (_, writer) => post(writer)))
  const sql = await connect(t, database)
  const { rows } = await sql.query<{ text: string }>('select text from chat_message order by id')
  t.equal(rows.length, 1000)
  const expected = ['list: ', ...rows.map(({ text }) => `message_created: ${text}`)]
  for (const { until } of readers) t.strictSame(await until(1001), expected)
  const cuts = readers.map(({ proxy }) => proxy.cuts()).reduce((sum, it) => sum + it)
  t.ok(cuts >= 8, `${cuts} cuts`)
})

t.test('follow() goes on after a restart of the service', async (t) => {
  const first = await startService(t)
  const { token } = await first.register()
  const { hostname, port } = new URL(first.url)
  const proxy = await startProxy(t, hostname, Number(port))
  const { until, errors } = startFollowing(t, `http://127.0.0.1:${proxy.port}`)
  await until(1)
  await first.post(token, 'before')
  await until(2)
  await first.app.close()
  await waitUntil('it noticed', () => errors.length > 1)
  const second = await startService(t, { POSTGRES_DB: first.database })
  await second.post(token, 'meanwhile')
  proxy.redirect(Number(new URL(second.url).port))
  t.strictSame(await until(3), ['list: ', 'message_created: before', 'message_created: meanwhile'])
  await second.post(token, 'after')
  t.equal((await until(4))[3], 'message_created: after')
})

t.test('a reset brings a fresh list', async (t) => {
  const { url, register, post, database } = await startService(t)
  const { token } = await register()
  await post(token, 'one')
  const { until, events } = startFollowing(t, url)
  await until(1)
  const sql = await connect(t, database)
  await sql.query("update chat_user set nickname = 'somebody else'") // what no event can tell
  t.strictSame(await until(2), ['list: one', 'reset: one'])
  t.match(events[1], { messages: [{ nickname: 'somebody else' }] })
  await post(token, 'two')
  t.equal((await until(3))[2], 'message_created: two')

  const late = startFollowing(t, url, { since: -5, limit: 1 })
  t.strictSame(await late.until(1), ['reset: two'], 'a cursor that the log does not reach back to')
})

t.test('follow() waits for a service that is not there yet, and throws what will not pass', async (t) => {
  const { url } = await startService(t)
  const { hostname, port } = new URL(url)
  const proxy = await startProxy(t, hostname, Number(port))
  await proxy.cut()
  const early = startFollowing(t, `http://127.0.0.1:${proxy.port}`)
  await waitUntil('it failed', () => early.errors.length > 0)
  t.match(early.errors[0], { status: 0, code: 'network_error' })
  await proxy.mend()
  t.strictSame(await early.until(1), ['list: '])
  await t.rejects(startFollowing(t, url, { limit: 0 }).ended, { status: 400, code: 'limit_invalid' })
  await t.rejects(startFollowing(t, `${url}/elsewhere`).ended, { status: 404, code: 'not_found' })
  await t.rejects(startFollowing(t, url, { since: 1.5 }).ended, { status: 400, code: 'since_invalid' })
})

t.test('the service says how long to wait before the next stream', async (t) => {
  const asked: number[] = []
  const server: Server = createServer((request, response) => {
    if (!request.url?.startsWith('/api/events')) {
      response.writeHead(200, { 'content-type': 'application/json', 'x-event-cursor': '7' }).end('[]')
      return
    }
    asked.push(performance.now())
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    response.end(
      `retry: 700\nid: ${7 + asked.length}\ndata: {"type":"message_deleted","id":1}\n\nid: 99\ndata: {"ty`
    )
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    server.closeAllConnections()
  })
  const { until, errors } = startFollowing(t, `http://127.0.0.1:${(server.address() as AddressInfo).port}`)
  t.strictSame(await until(3), ['list: ', 'message_deleted: 1', 'message_deleted: 1'])
  t.ok(asked[1]! - asked[0]! >= 700, 'not sooner')
  t.ok(errors.every((error) => error instanceof ChatError && error.retryAfter === 0.7))
})

t.test('the parser reads a stream that comes byte by byte, with either end of line', async (t) => {
  const text =
    'retry: 5\n: connected\nid: 1\ndata: {"type":\ndata: "é 👩‍🚀"}\n\n: still here\n\nid:2\nevent: x\ndata:{"type":"b"}\n\nid: 3\ndata: {}'
  for (const stream of [text, text.replaceAll('\n', '\r\n')]) {
    const parser = new EventParser()
    const events = [...Buffer.from(stream)].flatMap((byte) => parser.push(Uint8Array.of(byte)))
    t.strictSame(events, [
      { id: 1, event: { type: 'é 👩‍🚀' } },
      { id: 2, event: { type: 'b' } }
    ])
    t.equal(parser.retryMs, 5)
  }
})
