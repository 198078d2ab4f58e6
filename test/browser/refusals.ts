import { setTimeout as sleep } from 'node:timers/promises'
import type { Page, Route } from 'playwright-core'
import t from 'tap'
import { startService } from '../helpers/app.ts'
import {
  choose,
  drawn,
  enter,
  message,
  newPerson,
  openChat,
  readToTheStart,
  sees,
  shows,
  startBrowser,
  texts,
  write
} from '../helpers/browser.ts'
import { connect } from '../helpers/database.ts'

const browser = await startBrowser(t)
t.jobs = 1

/** The answer to what comes too often, or too much at once. */
const refusal = (status: 429 | 503, seconds: number) => {
  const code = status === 429 ? 'rate_limited' : 'busy'
  const headers = { 'retry-after': `${seconds}` }
  return { status, headers, json: { error: 'refused', code, requestId: 'x' } }
}

/** Counts the requests of a page that match. */
function countRequests(page: Page, path: RegExp) {
  const times: number[] = []
  page.on('request', (request) => {
    if (path.test(request.url())) times.push(performance.now())
  })
  return times
}

t.test(
  'edits and deletes that come too often are made all the same, when the service allows it',
  async (t) => {
    const { url } = await startService(t)
    const page = await openChat(t, browser, url)
    await enter(page, 'alice')
    for (const text of ['one', 'two']) {
      await write(page, text)
      await sees(page, text)
    }
    const refused: string[] = []
    const refuseTwice = (seconds: number) =>
      page.route(
        '**/api/messages/*',
        async (route) => {
          refused.push(route.request().method())
          await route.fulfill(refusal(429, seconds))
        },
        { times: 2 }
      )

    await refuseTwice(1)
    await choose(message(page, 'one'), 'Edit')
    await write(page, 'one, changed')
    await shows(page, ['one, changed', 'two'])
    t.equal(await page.inputValue('#text'), '', 'and one can go on writing')
    await refuseTwice(1)
    await choose(message(page, 'two'), 'Delete')
    await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click()
    await shows(page, ['one, changed'])
    t.strictSame(refused, ['PATCH', 'PATCH', 'DELETE', 'DELETE'])
    t.equal(await page.getByRole('alert').filter({ visible: true }).count(), 0)

    // Where it would take too long, the reader decides.
    await refuseTwice(600)
    await choose(message(page, 'one, changed'), 'Edit')
    await write(page, 'changed again')
    await page.getByRole('alert').filter({ hasText: 'Try again in 10 minutes.' }).waitFor()
    t.equal(await page.inputValue('#text'), 'changed again', 'what was written is still there')
    await page.press('#text', 'Enter')
    await page.waitForFunction(() => document.querySelector('#composer')!.ariaBusy === null)
    await page.press('#text', 'Enter')
    await shows(page, ['changed again'])
    t.equal(await page.getByRole('alert').filter({ visible: true }).count(), 0)
  }
)

t.test('the limits of the service itself: a burst of edits by one account in two tabs', async (t) => {
  const { url, call } = await startService(t, { RATE_LIMIT: 'on' })
  const page = await openChat(t, browser, url)
  await enter(page, 'alice')
  await write(page, 'one')
  await sees(page, 'one')
  const { id } = (await call('GET', '/api/messages?limit=1')).body[0]
  const { token } = await page.evaluate(() => JSON.parse(localStorage['chat.session']!) as { token: string })
  const edit = (text: string) => call('PATCH', `/api/messages/${id}`, { token, body: { text } })
  await Promise.all(Array.from({ length: 12 }, (_, i) => edit(`edit ${i}`)))
  const { text } = (await call('GET', '/api/messages?limit=1')).body[0]
  await choose(message(page, text), 'Edit')
  await write(page, 'the last word')
  await shows(page, ['the last word'])
})

t.test('rate-limited posts wait as long as the service says, and no longer', async (t) => {
  const { url } = await startService(t)
  const page = await openChat(t, browser, url)
  await enter(page, 'alice')
  const posts: number[] = []
  await page.route('**/api/messages', async (route) => {
    if (route.request().method() !== 'POST') return route.continue()
    posts.push(performance.now())
    return posts.length === 1 ? route.fulfill(refusal(429, 3)) : route.continue()
  })
  await write(page, 'one')
  await page.locator('#pending .state').getByText('Too many attempts. Try again in 3 seconds.').waitFor()
  for (const text of ['two', 'three', 'four']) await write(page, text)
  await shows(page, ['one', 'two', 'three', 'four'])
  t.equal(posts.length, 5)
  t.ok(posts[1]! - posts[0]! >= 2900, 'what is written meanwhile does not try it again')
})

/** What a service or a proxy may do to streams, and to requests that wait, when there are too many. */
const overloads: Record<string, { events: (route: Route) => unknown; wait?: (route: Route) => unknown }> = {
  'streams end at once': {
    events: (route) => route.fulfill({ body: 'retry: 1000\n\n' })
  },
  'streams end at once, and want to be back at once': {
    events: (route) => route.fulfill({ body: 'retry: 0\n\n' })
  },
  'streams end after their first bytes': {
    events: (route) => route.fulfill({ body: 'retry: 100\n\n: connected\n\n' })
  },
  'streams are empty': { events: (route) => route.fulfill({ body: '' }) },
  'streams are refused as one too many': { events: (route) => route.fulfill(refusal(429, 2)) },
  'streams are refused by a busy service': { events: (route) => route.fulfill(refusal(503, 1)) },
  'streams and long polls are refused as one too many': {
    events: (route) => route.fulfill(refusal(429, 1)),
    wait: (route) => route.fulfill(refusal(429, 1))
  },
  'streams and long polls are refused by a busy service': {
    events: (route) => route.fulfill(refusal(503, 1)),
    wait: (route) => route.fulfill(refusal(503, 1))
  },
  'streams end, and long polls are answered at once': {
    events: (route) => route.fulfill({ body: 'retry: 1000\n\n' }),
    wait: async (route) => {
      const url = new URL(route.request().url())
      url.searchParams.set('wait', '0')
      await route.fulfill({ response: await route.fetch({ url: url.href }) })
    }
  }
}

t.test(
  'where streams are refused, the page polls, says that all is well, and asks in moderation',
  async (t) => {
    const { url, register, call, post } = await startService(t)
    const { token } = await register()
    const first = await post(token, 'one')
    const pages: { name: string; page: Page; asked: number[] }[] = []
    for (const [name, { events, wait }] of Object.entries(overloads)) {
      const page = await (await newPerson(t, browser)).newPage()
      await page.route('**/api/events*', events)
      if (wait) await page.route(/wait=10/, wait)
      const asked = countRequests(page, /\/api\/(events|messages)/)
      await page.goto(url)
      await sees(page, 'one')
      pages.push({ name, page, asked })
    }
    const isWell = async (name: string, page: Page) => {
      t.equal(await page.getByRole('status').filter({ visible: true }).count(), 0, `${name}: all is well`)
    }
    const from = performance.now()
    await sleep(6000)
    for (const { name, page, asked } of pages) {
      const { length } = asked.filter((at) => at >= from && at < from + 6000)
      t.ok(length <= 14, `${name}: ${length} requests in 6 s`)
      await isWell(name, page)
    }
    await post(token, 'two')
    for (const { page } of pages) await sees(page, 'two')
    await call('PATCH', `/api/messages/${first.id}`, { token, body: { text: 'one, changed' } })
    for (const { name, page } of pages) {
      await shows(page, ['one, changed', 'two'])
      await isWell(name, page)
    }
  }
)

t.test('a refusal of older messages is not answered by asking again and again', async (t) => {
  const { url, register, database } = await startService(t)
  const { userId } = await register()
  const client = await connect(t, database)
  const fill = "insert into chat_message (user_id, text, created_at) select $1, 'message ' || n, now()"
  await client.query(`${fill} from generate_series(1, 120) n`, [userId])
  const page = await (await newPerson(t, browser)).newPage()
  let answer = refusal(503, 2)
  await page.route(/before_id/, (route) => route.fulfill(answer))
  const asked = countRequests(page, /before_id/)
  await page.goto(url)
  await sees(page, 'message 120')
  await page.locator('#scroller').evaluate((element) => {
    element.scrollTop = 0
  })
  await page.locator('#top').getByText('The server is busy.').waitFor()
  await sleep(5000)
  const { length } = asked.filter((at) => at < asked[0]! + 5000)
  t.ok(length >= 2 && length <= 4, `${length} requests in 5 s`)
  answer = refusal(429, 1)
  await page.locator('#top').getByText('Try again in 1 second.').waitFor()
  await page.unroute(/before_id/)
  t.equal((await readToTheStart(page)).length, 120)
})

t.test(
  'pages that are cut short: the history is read to its beginning, and nothing that is new is missed',
  async (t) => {
    const { url, register, post, call, database } = await startService(t)
    const { userId, token } = await register()
    const client = await connect(t, database)
    const fill = "insert into chat_message (user_id, text, created_at) select $1, 'message ' || n, now()"
    await client.query(`${fill} from generate_series(1, 60) n`, [userId])
    for (const isStreamed of [true, false]) {
      const way = isStreamed ? 'by stream' : 'by polls'
      let isAway = false
      const page = await (await newPerson(t, browser)).newPage()
      await page.route('**/api/messages?*', async (route) => {
        if (isAway) return route.abort()
        const response = await route.fetch()
        const messages = (await response.json()) as unknown[]
        const isAfter = route.request().url().includes('after_id')
        await route.fulfill({ response, json: isAfter ? messages.slice(0, 7) : messages.slice(-7) })
      })
      await page.route('**/api/events*', (route) => {
        if (isAway) return route.abort()
        return isStreamed ? route.continue() : route.fulfill({ body: 'retry: 600000\n\n' })
      })
      await page.goto(url)
      await sees(page, 'message 60')
      const all = await readToTheStart(page)
      t.strictSame(
        all.slice(0, 60),
        Array.from({ length: 60 }, (_, i) => `message ${i + 1}`),
        way
      )
      await page.locator('#newest').click()
      await page.locator('#newest').waitFor({ state: 'hidden' })

      isAway = true
      await page.evaluate(() => dispatchEvent(new Event('offline')))
      await page.getByRole('status').filter({ hasText: 'cannot be reached' }).waitFor()
      const { id } = await post(token, 'to be changed')
      const missed = Array.from({ length: 20 }, (_, i) => `${way} ${i + 1}`)
      for (const text of missed) await post(token, text)
      await call('PATCH', `/api/messages/${id}`, { token, body: { text: `${way}, changed` } })
      isAway = false
      await sees(page, missed.at(-1)!)
      await sees(page, `${way}, changed`)
      await drawn(page)
      t.strictSame((await texts(page)).slice(-21), [`${way}, changed`, ...missed])
      await page.unrouteAll({ behavior: 'ignoreErrors' })
      await page.close()
    }
  }
)

t.test('what only a proxy answers neither logs anybody out nor counts as sent', async (t) => {
  const { url, call } = await startService(t)
  const page = await openChat(t, browser, url)
  await enter(page, 'alice')
  const answers = {
    'a login page': { status: 401, contentType: 'text/html', body: '<h1>Sign in</h1>' },
    'no content': { status: 204 },
    'something else': { status: 200, json: {} }
  }
  let posts = 0
  for (const [text, answer] of Object.entries(answers)) {
    posts = 0
    await page.route('**/api/messages', (route) => {
      if (route.request().method() !== 'POST') return route.continue()
      posts++
      return route.fulfill(answer)
    })
    await write(page, text)
    const waiting = page.locator('#pending li').filter({ hasText: text })
    await waiting.locator('.state').getByText('Unexpected response').waitFor()
    t.ok(posts < 3, 'it is not sent again and again')
    await page.unroute('**/api/messages')
    await waiting.getByRole('button', { name: 'Try again' }).click()
    await sees(page, text)
    await waiting.waitFor({ state: 'detached' })
  }
  t.strictSame(
    (await call('GET', '/api/messages')).body.map(({ text }: { text: string }) => text),
    Object.keys(answers)
  )
})

t.test('who cannot go to a message, or back to the newest one, is told why', async (t) => {
  const { url, register, database } = await startService(t)
  const { userId } = await register()
  const client = await connect(t, database)
  await client.query(
    `insert into chat_message (user_id, text, created_at)
    select $1, 'message ' || n, now() from generate_series(1, 300) n`,
    [userId]
  )
  const page = await openChat(t, browser, url)
  await sees(page, 'message 300')
  const { rows } = await client.query('select min(id)::int as first from chat_message')
  const goTo = (n: number) =>
    page.evaluate(
      (id) => {
        location.hash = `#m${id}`
      },
      rows[0].first + n - 1
    )
  const alert = page.getByRole('alert').filter({ visible: true })

  await page.route('**/api/messages?*', (route) => route.fulfill(refusal(503, 1)))
  await goTo(100)
  await alert.getByText('The server is busy.').waitFor()
  await page.unroute('**/api/messages?*')
  await goTo(50)
  await sees(page, 'message 50')
  t.equal(await alert.count(), 0)

  await page.route('**/api/messages?limit=50', (route) => route.fulfill(refusal(503, 1)))
  await page.locator('#newest').click()
  await alert.getByText('The server is busy.').waitFor()
  await page.unroute('**/api/messages?limit=50')
  await page.locator('#newest').click()
  await sees(page, 'message 300')
  t.equal(await alert.count(), 0)

  // Who changes their mind is not told that a message is gone, and is not led astray.
  const first: Route[] = []
  await page.route('**/api/messages?*', (route) => (first.length < 2 ? first.push(route) : route.continue()))
  await goTo(100)
  await page.waitForFunction(() => location.hash)
  await goTo(50)
  await sees(page, 'message 50')
  await Promise.all(first.map((route) => route.continue()))
  await page.locator('li.found').getByText('message 50', { exact: true }).waitFor()
  await drawn(page)
  t.equal(await alert.count(), 0)
})
