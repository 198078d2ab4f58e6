import type { Page } from 'playwright-core'
import t, { type Test } from 'tap'
import { startService } from '../helpers/app.ts'
import { choose, enter, message, newPerson, openChat, sees, startBrowser, write } from '../helpers/browser.ts'
import { connect } from '../helpers/database.ts'

const browser = await startBrowser(t)
t.jobs = 1

/** A room of 400 messages. */
async function openRoom(t: Test) {
  const service = await startService(t)
  const { userId, token } = await service.register()
  const client = await connect(t, service.database)
  const { rows } = await client.query<{ id: number }>(
    `insert into chat_message (user_id, text, created_at)
    select $1, 'message ' || n, now() - make_interval(mins => 400 - n) from generate_series(1, 400) n
    returning id::int`,
    [userId]
  )
  const idOf = (n: number) => rows[n - 1]!.id
  return { ...service, token, idOf }
}

const isInView = (page: Page, text: string) =>
  message(page, text).evaluate((element) => {
    const { top, bottom } = element.getBoundingClientRect()
    const view = document.querySelector('#scroller')!.getBoundingClientRect()
    return top >= view.top && bottom <= view.bottom
  })

t.test('a reply quotes its message, through a reload and an outage, and the quote leads there', async (t) => {
  const { url, call, token, idOf } = await openRoom(t)
  const page = await openChat(t, browser, url)
  await enter(page, 'alice')
  await choose(message(page, 'message 399'), 'Reply')
  await page.locator('#replying').getByText('message 399').waitFor()
  await page.keyboard.press('Escape')
  t.equal(await page.locator('#replying').isVisible(), false)
  await choose(message(page, 'message 399'), 'Reply')
  await page.fill('#text', 'an answer')
  await page.reload()
  await page.locator('#replying').getByText('message 399').waitFor()
  await page.context().setOffline(true)
  await page.press('#text', 'Enter')
  t.equal(await page.locator('#replying').isVisible(), false)
  await page.locator('#pending .quote').getByText('message 399').waitFor()
  await page.context().setOffline(false)
  const quote = message(page, 'an answer').locator('.quote')
  await quote.getByText('message 399').waitFor()
  const [answer] = (await call('GET', '/api/messages?limit=1')).body
  t.equal(answer.replyTo.id, idOf(399))

  // The quote follows what becomes of the message.
  await call('PATCH', `/api/messages/${idOf(399)}`, { token, body: { text: 'changed' } })
  await quote.getByText('changed').waitFor()
  await call('DELETE', `/api/messages/${idOf(399)}`, { token })
  await quote.getByText('Deleted message').waitFor()
  t.equal(await quote.getAttribute('href'), null)

  await call('POST', '/api/messages', { token, body: { text: 'about an old one', replyTo: idOf(30) } })
  await sees(page, 'about an old one')
  await message(page, 'about an old one').locator('.quote').click()
  await sees(page, 'message 30')
  await page.waitForFunction(() => document.querySelector('li.found')?.textContent.includes('message 30'))
  t.ok(await isInView(page, 'message 30'))
  await sees(page, 'message 31')
  await page.locator('#newest').click()
  await sees(page, 'about an old one')
})

t.test('a reply to a message that is deleted meanwhile is sent without the quote', async (t) => {
  const { url, call, token, idOf } = await openRoom(t)
  const page = await openChat(t, browser, url)
  await enter(page, 'alice')
  await choose(message(page, 'message 400'), 'Reply')
  await call('DELETE', `/api/messages/${idOf(400)}`, { token })
  await message(page, 'message 400').waitFor({ state: 'detached' })
  await write(page, 'an answer')
  await sees(page, 'an answer')
  await page.locator('#pending li').waitFor({ state: 'detached' })
  const [answer] = (await call('GET', '/api/messages?limit=1')).body
  t.strictSame([answer.text, answer.replyTo], ['an answer', undefined])

  await page.evaluate((id) => {
    location.hash = `#m${id}`
  }, idOf(400))
  const notice = page.getByRole('alert').getByText('no longer exists')
  await notice.waitFor()
  await write(page, 'something else')
  await sees(page, 'something else')
  t.equal(await notice.isVisible(), false, 'it was about something earlier')
})

t.test('a link to a message opens the room around it', async (t) => {
  const { url, idOf, call, token } = await openRoom(t)
  const person = await newPerson(t, browser, { permissions: ['clipboard-read', 'clipboard-write'] })
  const page = await person.newPage()
  await page.goto(`${url}/#m${idOf(100)}`)
  await page.waitForFunction(() => document.querySelector('li.found')?.textContent.includes('message 100'))
  t.ok(await isInView(page, 'message 100'))
  for (const text of ['message 90', 'message 110']) await sees(page, text)
  await choose(message(page, 'message 101'), 'Copy link')
  const link = `${url}/#m${idOf(101)}`
  await page.waitForFunction(async (link) => (await navigator.clipboard.readText()) === link, link)

  await call('DELETE', `/api/messages/${idOf(200)}`, { token })
  await page.evaluate((id) => {
    location.hash = `#m${id}`
  }, idOf(200))
  await page.getByRole('alert').getByText('no longer exists').waitFor()
  t.ok(await isInView(page, 'message 100'), 'and the view stays where it is')
  const alert = page.getByRole('alert').filter({ visible: true })
  await page.evaluate((id) => {
    location.hash = `#m${id}`
  }, idOf(101))
  await page.locator('li.found').getByText('message 101', { exact: true }).waitFor()
  t.equal(await alert.count(), 0, 'which was said about the other one')
})
