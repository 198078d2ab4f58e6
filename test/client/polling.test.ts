import t from 'tap'
import { ChatClient } from '../../client/index.js'
import { startService } from '../helpers/app.ts'
import { startFollowing } from '../helpers/follow.ts'
import { startStreamProxy } from '../helpers/hostile-proxy.ts'
import { startModerated } from '../helpers/people.ts'
import { startProxy } from '../helpers/proxy.ts'
import { waitUntil } from '../helpers/raw.ts'

for (const streams of ['hold the response', 'hold the body', 404] as const) {
  t.test(`follow() polls where no stream comes through (${streams})`, async (t) => {
    const service = await startModerated(t)
    const { token } = await service.registerAs('moderator')
    await service.post(token, 'zero')
    const proxy = await startStreamProxy(t, service.url)
    proxy.streams = streams
    const { until } = startFollowing(t, proxy.url, { firstByteMs: 200, waitSeconds: 1 })
    await until(1)
    await waitUntil('it polls', () => proxy.requests('/api/messages') > 1)
    const chat = new ChatClient({ url: service.url, token })
    const { id } = await chat.postMessage({ text: 'one' })
    t.strictSame(await until(2), ['list: zero', 'message_created: one'])
    if (streams !== 'hold the response') return
    await chat.editMessage({ id, text: 'one, edited' })
    t.equal((await until(3))[2], 'message_updated: one, edited')
    await chat.deleteMessage({ id })
    t.equal((await until(4))[3], `message_deleted: ${id}`)
    await chat.updateRoom({ topic: 'tea' })
    t.equal((await until(5))[4], 'room_updated: tea')
    await chat.postMessage({ text: 'two' })
    t.equal((await until(6))[5], 'message_created: two')
  })
}

t.test('changing between streams and polls, nothing is missed or repeated', async (t) => {
  const { url, register } = await startService(t)
  const { token } = await register()
  const proxy = await startStreamProxy(t, url)
  proxy.streams = 'hold the body'
  const { until } = startFollowing(t, proxy.url, {
    firstByteMs: 50,
    silenceMs: 100,
    pollForMs: 100,
    waitSeconds: 1
  })
  await until(1)
  const chat = new ChatClient({ url, token })
  const expected = ['list: ']
  for (let n = 0; n < 200; n++) {
    proxy.streams = Math.floor(n / 30) % 2 ? 'pass' : 'hold the body'
    const { id } = await chat.postMessage({ text: `${n}` })
    expected.push(`message_created: ${n}`)
    if (n % 100 !== 99) continue
    await until(expected.length) // else a poll would see only what has become of them
    await chat.editMessage({ id, text: `${n}, edited` })
    expected.push(`message_updated: ${n}, edited`)
    await until(expected.length)
    await chat.deleteMessage({ id })
    expected.push(`message_deleted: ${id}`)
    await until(expected.length)
  }
  t.strictSame(await until(expected.length), expected)
  t.ok(proxy.requests('/api/events') > 1, 'it tried streams again')
})

t.test('a stream that takes over from a poll does not repeat its messages', async (t) => {
  const { url, register } = await startService(t)
  const { token } = await register()
  const chat = new ChatClient({ url, token })
  const { id } = await chat.postMessage({ text: 'zero' })
  const proxy = await startStreamProxy(t, url)
  proxy.streams = 'hold the body'
  proxy.cuts = (path) => {
    const isNewestPage = path.startsWith('/api/messages?limit=200')
    if (isNewestPage) proxy.streams = 'pass'
    return isNewestPage
  }
  const { until, errors } = startFollowing(t, proxy.url, { firstByteMs: 200, waitSeconds: 25 })
  await until(1)
  await waitUntil('it polls', () => proxy.requests('/api/messages') > 1)
  // A poll shows the new message only. When it fails to find out what else there was, a stream tells.
  await chat.editMessage({ id, text: 'zero, edited' })
  await chat.postMessage({ text: 'one' })
  await chat.postMessage({ text: 'two' })
  const expected = [
    'list: zero',
    'message_created: one',
    'message_updated: zero, edited',
    'message_created: two'
  ]
  await waitUntil('all have come', async () => (await until(4)).includes('message_created: two'))
  t.strictSame((await until(4)).sort(), expected.sort())
  t.ok(errors.length > 0)
})

t.test('a service without room for another stream is polled', async (t) => {
  const { url, register, post, app } = await startService(t, { MAX_STREAMS: 0 })
  const { token } = await register()
  const { until, errors } = startFollowing(t, url, { waitSeconds: 1 })
  await until(1)
  await post(token, 'one')
  t.strictSame(await until(2), ['list: ', 'message_created: one'])
  t.strictSame(errors, [])
  t.equal(app.room.streams.size, 0)
})

t.test('a stream that falls silent is abandoned', async (t) => {
  const { url, app, register, post } = await startService(t)
  const { token } = await register()
  const { hostname, port } = new URL(url)
  const proxy = await startProxy(t, hostname, Number(port))
  const { until } = startFollowing(t, `http://127.0.0.1:${proxy.port}`, {
    silenceMs: 300,
    waitSeconds: 1,
    timeoutMs: 1000 // a poll may take the connection of the list, which is dead as well
  })
  await until(1)
  await waitUntil('the stream is open', () => app.room.streams.size === 1)
  proxy.blackhole()
  await post(token, 'one')
  t.strictSame(await until(2), ['list: ', 'message_created: one'])
})

t.test('follow() polls a room with messages so long that a page is cut short', async (t) => {
  const service = await startModerated(t, { MAX_STREAMS: 0 })
  const { token, userId } = await service.registerAs('moderator')
  const chat = new ChatClient({ url: service.url, token })
  const { id: zero } = await service.post(token, 'zero')
  const { id: one } = await service.post(token, 'one')
  const { until } = startFollowing(t, service.url, { waitSeconds: 1 })
  await until(1)
  const longText = 'x'.repeat(3_000_000)
  for (const count of [2, 3]) {
    await service.client.query(
      'insert into chat_message (user_id, text, created_at) values ($1, $2, now())',
      [userId, longText]
    )
    t.equal((await until(count)).at(-1), `message_created: ${longText}`)
  }
  t.equal((await chat.listMessages()).length, 1, 'the newest page has one of them')
  await chat.updateRoom({ topic: 'tea' })
  t.equal((await until(4))[3], 'room_updated: tea', 'and the messages before it are not taken for deleted')
  await chat.editMessage({ id: one, text: 'one, edited' })
  t.equal((await until(5))[4], 'message_updated: one, edited')
  await chat.deleteMessage({ id: zero })
  t.equal((await until(6))[5], `message_deleted: ${zero}`)
})
