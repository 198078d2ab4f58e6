import type { Page, Route } from 'playwright-core'
import t from 'tap'
import { freePort } from '../../src/embedded/process.ts'
import { startService } from '../helpers/app.ts'
import {
  choose,
  enter,
  message,
  openChat,
  readToTheStart,
  sees,
  shows,
  startBrowser,
  texts,
  write
} from '../helpers/browser.ts'
import { config, connect, createDatabase } from '../helpers/database.ts'
import { startModerated } from '../helpers/people.ts'
import { startProxy } from '../helpers/proxy.ts'
import { waitUntil } from '../helpers/raw.ts'
import { externalEngines, startServer } from '../helpers/server.ts'

const browser = await startBrowser(t)
t.jobs = 1

/** Hides the page, as another tab in front of it does, or shows it. */
const look = (page: Page, hidden: boolean) =>
  page.evaluate((hidden) => {
    Object.defineProperty(document, 'hidden', { value: hidden, configurable: true })
    document.dispatchEvent(new Event('visibilitychange'))
  }, hidden)

t.test(
  'the service is killed and started in mid-sentence: nothing is lost, and nothing has to be done',
  async (t) => {
    const port = `${await freePort()}`
    const env = {
      ...externalEngines(),
      POSTGRES_DB: await createDatabase(t),
      HTTP_PORT: port,
      BCRYPT_COST: '4'
    }
    const server = startServer(t, env)
    const page = await openChat(t, browser, await server.ready)
    await enter(page, `alice ${port}`)
    await write(page, 'before')
    await sees(page, 'before')
    await page.fill('#text', 'in mid-')
    server.child.kill('SIGKILL')
    await page.getByRole('status').filter({ hasText: 'The server cannot be reached' }).waitFor()
    await page.locator('#text').pressSequentially('sentence')
    await page.press('#text', 'Enter')
    await page.locator('#pending li').getByText('in mid-sentence').waitFor()
    await startServer(t, env).ready
    await page.getByRole('status').filter({ hasText: 'Reconnected' }).waitFor()
    await shows(page, ['before', 'in mid-sentence'])
    await page.getByRole('status').waitFor({ state: 'hidden' })
    t.equal(await page.locator('#pending li').count(), 0)
  }
)

t.test(
  'PostgreSQL and Redis go down and come back: posts wait, with the reason, and nobody is logged out',
  async (t) => {
    const postgres = await startProxy(t, config.POSTGRES_HOST!, config.POSTGRES_PORT)
    const redis = await startProxy(t, config.REDIS_HOST!, config.REDIS_PORT)
    const { url } = await startService(t, {
      POSTGRES_HOST: '127.0.0.1',
      POSTGRES_PORT: postgres.port,
      REDIS_HOST: '127.0.0.1',
      REDIS_PORT: redis.port
    })
    const page = await openChat(t, browser, url)
    await enter(page, 'alice')
    for (const [engine, text, sentence] of [
      [postgres, 'one', 'The database is not available right now.'],
      [redis, 'two', 'The session store is not available right now.']
    ] as const) {
      await engine.cut()
      await write(page, text)
      await page
        .locator('#pending li')
        .filter({ hasText: text })
        .locator('.state')
        .getByText(sentence)
        .waitFor()
      t.equal(await page.locator('#composer').isVisible(), true)
      await engine.mend()
      await sees(page, text)
      await page.locator('#pending li').waitFor({ state: 'detached' })
    }
    t.strictSame(await texts(page), ['one', 'two'])
  }
)

t.test('a stream is cut: it says so, goes on from where it was, and nothing comes twice', async (t) => {
  const { url, register, post } = await startService(t)
  const { token } = await register()
  const wire = await startProxy(t, '127.0.0.1', Number(new URL(url).port))
  const page = await openChat(t, browser, `http://127.0.0.1:${wire.port}`)
  const first = await post(token, 'one')
  await sees(page, 'one')
  await wire.cut()
  await page
    .getByRole('status')
    .filter({ hasText: /cannot be reached|Connecting/ })
    .waitFor()
  await post(token, 'two')
  await fetch(`${url}/api/messages/${first.id}`, {
    method: 'PATCH',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    body: '{"text":"one, changed"}'
  })
  await wire.mend()
  await page.getByRole('status').filter({ hasText: 'Reconnected' }).waitFor()
  await shows(page, ['one, changed', 'two'])
  await post(token, 'three')
  await shows(page, ['one, changed', 'two', 'three'])
})

t.test(
  'five hundred messages while offline are all there afterwards, also those that the log no longer tells',
  async (t) => {
    const { url, register, call, database } = await startService(t)
    const { userId } = await register()
    const client = await connect(t, database)
    const say = (from: number, to: number) =>
      client.query(
        "insert into chat_message (user_id, text, created_at) select $1, 'message ' || n, now() from generate_series($2::int, $3::int) n",
        [userId, from, to]
      )
    const page = await openChat(t, browser, url)
    await say(1, 10)
    await sees(page, 'message 10')
    await page.context().setOffline(true)
    await page.getByRole('status').filter({ hasText: 'You are offline' }).waitFor()
    await say(11, 510)
    await page.context().setOffline(false)
    await sees(page, 'message 510')
    t.strictSame(
      await readToTheStart(page),
      Array.from({ length: 510 }, (_, n) => `message ${n + 1}`)
    )

    await page.context().setOffline(true)
    await page.getByRole('status').filter({ hasText: 'You are offline' }).waitFor()
    await say(511, 2600)
    await waitUntil(
      'the last message is in the list',
      async () => (await call('GET', '/api/messages?limit=1')).body[0].text === 'message 2600'
    )
    await client.query('delete from chat_event where seq < (select max(seq) - 10 from chat_event)')
    await page.context().setOffline(false)
    await sees(page, 'message 2600')
    t.strictSame(
      await readToTheStart(page),
      Array.from({ length: 2600 }, (_, n) => `message ${n + 1}`)
    )
  }
)

t.test('where no stream comes through, it asks again and again, and hears of changes as well', async (t) => {
  const { url, register, call, post } = await startService(t)
  const { token } = await register()
  const first = await post(token, 'one')
  await post(token, 'two')
  const blocks: Record<string, (route: Route) => unknown> = {
    'a proxy that holds the answer back': () => {},
    'a proxy that cuts it': (route) => route.abort(),
    'a proxy that refuses it': (route) => route.fulfill({ status: 403, body: '<h1>Forbidden</h1>' }),
    'a service without room for it': (route) => route.fulfill({ body: 'retry: 9000\n' })
  }
  for (const [name, block] of Object.entries(blocks)) {
    const page = await openChat(t, browser, 'about:blank')
    await page.route('**/api/events*', block)
    const polled = page.waitForRequest(/after_id=\d+&limit=200&wait=10/)
    await page.goto(url)
    await sees(page, 'two')
    await polled
    const { id } = await post(token, name)
    await sees(page, name)
    t.equal(await page.getByRole('status').filter({ visible: true }).count(), 0, 'all is well')
    await call('DELETE', `/api/messages/${id}`, { token })
    await call('PATCH', `/api/messages/${first.id}`, { token, body: { text: `one, ${name}` } })
    await shows(page, [`one, ${name}`, 'two'])
    await page.close()
  }
})

t.test('a stream that the page itself breaks off while it opens is opened again', async (t) => {
  const { url } = await startService(t)
  const page = await openChat(t, browser, 'about:blank')
  await page.route('**/api/events*', () => {}, { times: 1 })
  const opening = page.waitForRequest(/api\/events/)
  await page.goto(url)
  await opening
  const again = page.waitForRequest(/api\/events/)
  await page.evaluate(() => dispatchEvent(new Event('offline')))
  await again
  t.pass('and not asked for again and again instead')
})

t.test('a service that is busy says so, and the page comes back by itself', async (t) => {
  const { url, register, post } = await startService(t)
  const { token } = await register()
  const page = await openChat(t, browser, 'about:blank')
  const answer = {
    status: 503,
    headers: { 'retry-after': '1' },
    contentType: 'application/json',
    body: '{"error":"service is busy, try again soon","code":"busy","requestId":"x"}'
  }
  await page.route('**/api/{events,messages}*', (route) => route.fulfill(answer))
  await page.goto(url)
  await page.getByRole('status').filter({ hasText: 'The server is busy.' }).waitFor()
  await post(token, 'hello')
  await page.unroute('**/api/{events,messages}*')
  await sees(page, 'hello')
  await page.getByRole('status').waitFor({ state: 'hidden' })
})

t.test('a page that was hidden knows the rules and the topic that changed meanwhile', async (t) => {
  const { url, registerAs, call } = await startModerated(t)
  const { token } = await registerAs('moderator')
  const page = await openChat(t, browser, url)
  await page.locator('#online').getByText('online').waitFor()
  const polled = page.waitForRequest(/after_id=\d+&limit=200&wait=0/, { timeout: 40_000 })
  await look(page, true)
  await polled
  await call('PATCH', '/api/room', { token, body: { topic: 'Release day' } })
  await look(page, false)
  // Sooner than it is read anew in any case.
  await page.locator('#topic').getByText('Release day').waitFor({ timeout: 20_000 })
})

t.test(
  'a page that nobody looks at gives its stream up, and has missed nothing when somebody does',
  async (t) => {
    const { url, register, post } = await startService(t)
    const { token } = await register()
    const page = await openChat(t, browser, url)
    await post(token, 'one')
    await sees(page, 'one')
    const polled = page.waitForRequest(/after_id=\d+&limit=200&wait=0/, { timeout: 40_000 })
    await look(page, true)
    await post(token, 'two')
    await page.waitForFunction(() => document.title === '(1) Chat')
    await polled
    await post(token, 'three')
    const resumed = page.waitForRequest(/api\/events/)
    await look(page, false)
    await resumed
    await shows(page, ['one', 'two', 'three'])
    await page.waitForFunction(() => document.title === 'Chat')
  }
)

t.test('a page that is opened behind another one needs no stream', async (t) => {
  const { url } = await startService(t)
  const page = await openChat(t, browser, 'about:blank')
  await page.addInitScript(() => Object.defineProperty(document, 'hidden', { value: true }))
  const polled = page.waitForRequest(/after_id=\d+&limit=200&wait=0/, { timeout: 40_000 })
  await page.goto(url)
  await polled
})

t.test('only what is sent once the reader is back online is said to be', async (t) => {
  const { url } = await startService(t)
  const page = await openChat(t, browser, url)
  await enter(page, 'alice')
  await write(page, 'one')
  await sees(page, 'one')
  await page.context().setOffline(true)
  const status = page.getByRole('status').filter({ hasText: 'You are offline' })
  await status.waitFor()
  t.notMatch(await status.textContent(), 'will be sent')
  await choose(message(page, 'one'), 'Edit')
  await write(page, 'one, changed')
  const alert = page.getByRole('alert').filter({ hasText: 'You are offline' })
  await alert.waitFor()
  t.notMatch(await alert.textContent(), 'will be sent')
  await page.getByRole('button', { name: 'Cancel' }).click()
  await write(page, 'two')
  await page.locator('#pending .state').getByText('will be sent when you are back online').waitFor()
  await page.context().setOffline(false)
  await shows(page, ['one', 'two'])
})

t.test('a log that is lost again and again is not asked for without a pause', async (t) => {
  const { url, register, post } = await startService(t)
  await post((await register()).token, 'one')
  const page = await openChat(t, browser, 'about:blank')
  const times: number[] = []
  await page.route('**/api/events*', (route) => {
    times.push(performance.now())
    return route.fulfill({ contentType: 'text/event-stream', body: 'id: 1\ndata: {"type":"reset"}\n\n' })
  })
  await page.goto(url)
  await waitUntil('a fourth stream is opened', () => times.length >= 4, 30_000)
  t.ok(times[3]! - times[0]! > 4000)
  await page.unroute('**/api/events*')
  await sees(page, 'one')
})
