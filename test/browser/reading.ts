import type { Page } from 'playwright-core'
import t, { type Test } from 'tap'
import { startService } from '../helpers/app.ts'
import {
  audit,
  drawn,
  enter,
  message,
  newPerson,
  openChat,
  place,
  reachesTheEnd,
  sees,
  startBrowser,
  write
} from '../helpers/browser.ts'
import { connect } from '../helpers/database.ts'
import { startModerated } from '../helpers/people.ts'

const browser = await startBrowser(t)
t.jobs = 1
const phone = { viewport: { width: 390, height: 760 }, isMobile: true, hasTouch: true }

/** A room with somebody who talks. */
async function openRoom(t: Test) {
  const service = await startService(t)
  const { token, nickname } = await service.register()
  return { ...service, token, nickname, say: (text: string) => service.post(token, text) }
}

const box = async (page: Page, text: string, selector: string) =>
  (await message(page, text).locator(selector).boundingBox())!

t.test('on a phone, the time takes no line of its own, and the text has the whole width', async (t) => {
  const { url, say } = await openRoom(t)
  const long = 'This text is much longer than a line on a phone, and its last line has space left. Yes'
  const rightToLeft = 'בוקר טוב לכולם! אני בודקת'
  for (const text of ['short', long, rightToLeft]) await say(text)
  const page = await openChat(t, browser, url, phone)
  await sees(page, rightToLeft)
  const short = await box(page, 'short', '.body')
  t.ok(short.height < 30, `a short text and its time are one line, ${short.height} px high`)
  const [text, time] = [await box(page, long, '.text'), await box(page, long, 'time')]
  t.ok(text.width > 270, `lines are as long as the bubble allows: ${text.width} px`)
  t.ok(time.y + time.height <= text.y + text.height + 1, 'and the time is in the last of them')
  const [hebrew, at] = [await box(page, rightToLeft, '.text'), await box(page, rightToLeft, 'time')]
  t.ok(at.x + at.width <= hebrew.x, 'a text from right to left ends on the left, where its time is')
})

t.test('each message says who, when and whether it was edited, to everybody', async (t) => {
  const { url, call, token, nickname, say } = await openRoom(t)
  const { id } = await say('frist')
  await say('second')
  const page = await openChat(t, browser, url, { timezoneId: 'UTC' })
  await sees(page, 'second')
  t.equal(await message(page, 'frist').getByText('edited').isVisible(), false)
  await call('PATCH', `/api/messages/${id}`, { token, body: { text: 'first' } })
  await message(page, 'first').getByText('edited').waitFor()
  const time = message(page, 'second').locator('time')
  const year = `${new Date().getFullYear()}`
  t.match(await time.getAttribute('title'), year)
  t.match(await time.getAttribute('aria-label'), year)
  t.ok(Date.parse((await time.getAttribute('datetime'))!) > 0)
  const tree = await message(page, 'second').ariaSnapshot()
  t.match(tree, nickname, 'the author of a message is in its accessibility tree, whoever spoke before')
  t.match(tree, 'Message actions')
  const color = (selector: string) =>
    message(page, 'first')
      .locator(selector)
      .evaluate((element) => element.closest('li')!.style.getPropertyValue('--hue'))
  t.equal(await color('.author'), await color('.avatar'))
})

t.test('a long run of one person repeats the name, wherever it begins to be loaded', async (t) => {
  const { url, say } = await openRoom(t)
  for (let i = 1; i <= 25; i++) await say(`message ${i}`)
  const page = await openChat(t, browser, url)
  await sees(page, 'message 25')
  const named = () => page.locator('#messages li.first').count()
  t.equal(await named(), 3)
  for (let i = 26; i <= 35; i++) await say(`message ${i}`)
  await sees(page, 'message 35')
  t.equal(await named(), 4)
})

t.test('a line shows where the reader left off', async (t) => {
  const { url, say } = await openRoom(t)
  await say('read')
  const person = await newPerson(t, browser)
  const page = await person.newPage()
  await page.goto(url)
  await sees(page, 'read')
  t.equal(await page.getByText('New messages').isVisible(), false)
  await page.waitForFunction(() => localStorage['chat.read'] !== undefined)
  await page.goto('about:blank')
  await say('new')
  await say('newer')
  await page.goto(url)
  await sees(page, 'newer')
  t.equal(await message(page, 'new').getByText('New messages').count(), 1)
  t.equal(await page.getByText('New messages').filter({ visible: true }).count(), 1)
  await enter(page, 'alice')
  await write(page, 'an answer')
  await sees(page, 'an answer')
  t.equal(await page.getByText('New messages').filter({ visible: true }).count(), 0, 'until they answer')
})

t.test('who was away for long begins to read where they left off', async (t) => {
  const { url, say } = await openRoom(t)
  await say('read')
  const page = await openChat(t, browser, url)
  await sees(page, 'read')
  await page.waitForFunction(() => localStorage['chat.read'] !== undefined)
  const open = async () => {
    await page.goto('about:blank')
    await page.goto(url)
    await sees(page, 'message 30')
    await page.waitForFunction(() => {
      const line = document.querySelector('.unread:not([hidden])')?.getBoundingClientRect()
      return line && line.top > 0 && line.bottom < innerHeight
    })
  }
  await page.goto('about:blank')
  for (let i = 1; i <= 30; i++) await say(`message ${i}`)
  await open()
  t.equal(await message(page, 'message 1').getByText('New messages').count(), 1)
  await open()
  await page.getByRole('button', { name: '30 new messages' }).waitFor()
  await page.locator('#newest').click()
  await reachesTheEnd(page)
  await page.goto('about:blank')
  await page.goto(url)
  await sees(page, 'message 30')
  await reachesTheEnd(page)
  t.equal(await page.getByText('New messages').filter({ visible: true }).count(), 0)
})

t.test('what is copied from several messages has their authors', async (t) => {
  const { url, say, nickname } = await openRoom(t)
  await say('one')
  await say('two')
  const page = await (
    await newPerson(t, browser, { permissions: ['clipboard-read', 'clipboard-write'] })
  ).newPage()
  await page.goto(url)
  await sees(page, 'two')
  const copy = async (...ends: [string, string]) => {
    await page.evaluate((ends) => {
      const [first, last] = ends.map((end) =>
        [...document.querySelectorAll('#messages .text')].find(({ textContent }) => textContent === end)!
      )
      getSelection()!.setBaseAndExtent(first!.firstChild!, 1, last!.firstChild!, 2)
    }, ends)
    await page.keyboard.press('ControlOrMeta+C')
    return page.evaluate(() => navigator.clipboard.readText())
  }
  t.equal(await copy('one', 'one'), 'n')
  const copied = (await copy('one', 'two')).split('\n\n')
  t.strictSame(
    copied.map((part) => [part.startsWith(`${nickname}, `), part.split(':\n').at(-1)]),
    [
      [true, 'ne'],
      [true, 'tw']
    ]
  )
})

t.test('the topic and the number of people online are at the top, and are kept up to date', async (t) => {
  const { url, registerAs, call } = await startModerated(t)
  const { token } = await registerAs('moderator')
  const page = await openChat(t, browser, url)
  await page
    .locator('#online')
    .filter({ hasText: /^\d+ online$/ })
    .waitFor()
  t.equal(await page.locator('#topic').isVisible(), false)
  await call('PATCH', '/api/room', { token, body: { topic: 'Release day' } })
  await page.locator('#topic').getByText('Release day').waitFor()
  await page.reload()
  await page.locator('#topic').getByText('Release day').waitFor()
})

t.test('a topic that is too long for a phone can be opened and read in full', async (t) => {
  const { url, registerAs, call } = await startModerated(t)
  const { token } = await registerAs('moderator')
  const words = 'Release on Friday: write here what you tested, and on which machine. '
    .repeat(3)
    .slice(0, 200)
  const text = words.trim()
  await call('PATCH', '/api/room', { token, body: { topic: text } })
  const page = await openChat(t, browser, url, phone)
  const topic = page.getByRole('button', { name: text })
  await topic.waitFor()
  /** The pixels of the text that are out of sight. */
  const hidden = () => topic.evaluate((element) => element.scrollWidth - element.clientWidth)
  t.ok((await hidden()) > 0, 'at first it is cut')
  t.equal(await topic.getAttribute('aria-expanded'), 'false')

  await topic.tap()
  await page.getByRole('button', { name: text, expanded: true }).waitFor()
  t.equal(await hidden(), 0, 'now it is not')
  const { x, width, height } = (await topic.boundingBox())!
  t.ok(x >= 0 && x + width <= phone.viewport.width, 'it is on the screen')
  t.ok(height < 150, `and does not take all of it: ${height} px`)
  await audit(t, page, 'an open topic')
  await topic.press('Enter')
  await page.getByRole('button', { name: text, expanded: false }).waitFor()
  t.ok((await hidden()) > 0, 'it is closed again')
})

t.test('whatever the nickname and the width, the topic can be seen and opened', async (t) => {
  const { url, registerAs, call, client } = await startModerated(t)
  const { token, userId, nickname } = await registerAs('moderator')
  await client.query('update chat_user set nickname = $2 where id = $1', [
    userId,
    `${nickname} ${'M'.repeat(40)}`
  ])
  const text = 'Release on Friday: write here what you tested, and on which machine it was.'
  await call('PATCH', '/api/room', { token, body: { topic: text } })
  const page = await openChat(t, browser, url, phone)
  await page.evaluate(
    (session) => localStorage.setItem('chat.session', session),
    JSON.stringify({ token, userId, nickname: `${nickname} ${'M'.repeat(40)}` })
  )
  await page.reload()
  const topic = page.getByRole('button', { name: text })
  await topic.waitFor()
  await page.getByRole('button', { name: 'Moderation' }).waitFor()
  for (const locale of ['en', 'ru']) {
    await page.selectOption('#language', locale)
    await page.locator(`html[lang=${locale}]`).waitFor()
    for (const width of [260, 320, 360, 390, 480, 640, 700, 770, 900]) {
      await page.setViewportSize({ width, height: 760 })
      const { x, width: shown } = (await topic.boundingBox())!
      t.ok(
        shown >= 120 && x >= 0 && x + shown <= width,
        `${locale}, ${width} px: ${shown} px of it are shown`
      )
      for (const id of ['account', 'search', 'moderation']) {
        const button = (await page.locator(`#${id}`).boundingBox())!
        t.ok(button.x >= 0 && button.width >= 24 && button.x + button.width <= width, `#${id} as well`)
      }
    }
  }
  await page.setViewportSize({ width: 360, height: 760 })
  await topic.tap()
  await page.getByRole('button', { name: text, expanded: true }).waitFor()
})

t.test('today and yesterday follow the calendar, also when clocks change', async (t) => {
  const { url, register, database } = await startService(t)
  const { userId } = await register()
  const client = await connect(t, database)
  // In Berlin, Sunday the 28th of March 2027 has 23 hours, and Sunday the 31st of October 25.
  for (const [now, days] of Object.entries({
    '2027-03-28T22:30:00Z': [/^Saturday/, 'Yesterday'],
    '2027-10-31T22:30:00Z': ['Yesterday', 'Today']
  })) {
    await client.query('delete from chat_message')
    for (const hoursAgo of [35, 11]) {
      await client.query(
        "insert into chat_message (user_id, text, created_at) values ($1, 'x', $2::timestamptz - make_interval(hours => $3))",
        [userId, now, hoursAgo]
      )
    }
    const page = await openChat(t, browser, 'about:blank', { timezoneId: 'Europe/Berlin' })
    await page.clock.setFixedTime(new Date(now))
    await page.goto(url)
    await page.locator('#messages .text').nth(1).waitFor()
    t.match(await page.locator('#messages .day').allTextContents(), days, now)
  }
})

t.test('another language keeps the place', async (t) => {
  const { url, register, database } = await startService(t)
  const { userId } = await register()
  const client = await connect(t, database)
  await client.query(
    `insert into chat_message (user_id, text, created_at)
    select $1, 'message ' || n || repeat(E'\\nmore', n % 40), now() - make_interval(hours => 80 - n) from generate_series(1, 80) n`,
    [userId]
  )
  await client.query("update chat_message set text = text || '!' where id % 3 = 0")
  const page = await openChat(t, browser, url, phone)
  await message(page, 'message 80').waitFor()
  await reachesTheEnd(page)
  await message(page, 'message 40').evaluate((element) => element.scrollIntoView())
  await drawn(page)
  const before = await place(page, 'message 40')
  await page.selectOption('#language', 'ru')
  await page.locator('html[lang=ru]').waitFor()
  await drawn(page)
  t.ok(Math.abs((await place(page, 'message 40')) - before) < 2)
})

t.test('a message that is deleted before it is read no longer counts as unread', async (t) => {
  const { url, register, post, call } = await startService(t)
  const { token } = await register()
  const page = await openChat(t, browser, url)
  await post(token, 'one')
  await sees(page, 'one')
  await page.evaluate(() => {
    Object.defineProperty(document, 'hidden', { value: true, configurable: true })
    document.dispatchEvent(new Event('visibilitychange'))
  })
  const { id } = await post(token, 'two')
  await post(token, 'three')
  await page.waitForFunction(() => document.title === '(2) Chat')
  await call('DELETE', `/api/messages/${id}`, { token })
  await page.waitForFunction(() => document.title === '(1) Chat')
})
