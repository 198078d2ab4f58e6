import t from 'tap'
import { startService } from '../helpers/app.ts'
import { openRaw, waitUntil } from '../helpers/raw.ts'

t.test('one address can only let so many requests wait, unless many people may be behind it', async (t) => {
  const { app, url } = await startService(t, { MAX_LONG_POLLS_PER_ADDRESS: 2, MAX_LONG_POLLS: 4 })
  const { longPolls } = app.room
  const wait = async (from: string, headers = '') => {
    const raw = await openRaw(t, url, { from })
    raw.socket.write(`GET /api/messages?after_id=0&wait=20 HTTP/1.1\r\nhost: chat\r\n${headers}\r\n`)
    return raw
  }
  const first = await wait('127.0.0.1')
  await wait('127.0.0.1')
  await waitUntil('both wait', () => longPolls.size === 2)
  const refusal = await (await wait('127.0.0.1')).until(/}/)
  t.match(refusal, /^HTTP\/1.1 429 [^]*retry-after: \d+[^]*"code":"too_many_long_polls"/i)
  await wait('127.0.0.2')
  await waitUntil('another address may wait', () => longPolls.size === 3)
  await wait('127.0.0.1', 'x-forwarded-for: 203.0.113.7\r\n')
  await waitUntil('a proxy that nobody knows may wait', () => longPolls.size === 4)
  t.match(await (await wait('127.0.0.3')).until(/}/), /^HTTP\/1.1 503 [^]*retry-after: \d+[^]*"code":"busy"/i)

  first.socket.destroy()
  await waitUntil('one has gone', () => longPolls.size === 3)
  await wait('127.0.0.1')
  await waitUntil('and another may wait', () => longPolls.size === 4)
})

t.test('a message releases only the long polls that wait for it', async (t) => {
  const { app, url, register, post } = await startService(t)
  const { token } = await register()
  const { id } = await post(token, 'first')
  const ask = async (after: number) => {
    const raw = await openRaw(t, url)
    raw.socket.write(`GET /api/messages?after_id=${after}&wait=20 HTTP/1.1\r\nhost: chat\r\n\r\n`)
    return raw
  }
  const near = await Promise.all(Array.from({ length: 300 }, () => ask(id)))
  const far = await Promise.all(Array.from({ length: 3 }, () => ask(id + 1)))
  await waitUntil('all of them wait', () => app.room.longPolls.size === 303)
  await post(token, 'second')
  for (const { until } of near) t.match(await until(/\]/), /"text":"second"/)
  t.equal(app.room.longPolls.size, 3)
  await post(token, 'third')
  for (const { until } of far) t.match(await until(/\]/), /"text":"third"/)
})
