import axe from 'axe-core'
import type { BrowserContextOptions, Page } from 'playwright-core'
import t from 'tap'
import { startService } from '../helpers/app.ts'
import { enter, message, openChat, sees, shows, startBrowser, write } from '../helpers/browser.ts'
import { connect } from '../helpers/database.ts'

// Each state of the page is looked at by axe-core. With SCREENSHOTS=<folder> it is drawn as well, for people to look at; `npm run screenshots`
// draws those of them that are in docs/.
const { SCREENSHOTS: folder, SCREENSHOTS_ONLY: only } = process.env

const browser = await startBrowser(t)
const { url, database, call } = await startService(t)
const client = await connect(t, database)
const people = ['Ada', 'Grace', 'נועה', 'Linus', 'Маша'] as const
for (const nickname of people) await call('POST', '/api/register', { body: { nickname, password: 'correct horse' } })
/** One conversation, so many minutes ago. */
const talk: [(typeof people)[number], string, number][] = [
  ['Grace', 'Good morning! Is the release still planned for today?', 1500],
  ['Linus', 'Yes, after lunch. The change log is here: https://example.com/releases/2.0', 1499],
  ['Grace', 'Thanks, I will read it on the train.', 1490],
  ['Ada', 'I measured the new writer this morning.\nOne commit serves many posts now, so under load it is about three times as fast.', 64],
  ['Ada', 'The numbers are in the README.', 63],
  ['Linus', 'Very nice 👏', 60],
  ['נועה', 'בוקר טוב לכולם! אני בודקת את זה עכשיו.', 41],
  ['Маша', 'А русский интерфейс уже есть?', 20],
  ['Ada', 'Да, переключатель вверху справа.', 19],
  ['Маша', '🎉', 18],
  ['Grace', 'All tests are green. Shall we?', 3]
]
for (const [nickname, text, minutes] of talk) {
  await client.query('insert into chat_message (user_id, text, created_at) select id, $2, now() - make_interval(mins => $3) from chat_user where nickname = $1', [nickname, text, minutes])
}
t.jobs = 1

const look = async (page: Page, name: string) => {
  await page.mouse.move(0, 0)
  await page.waitForFunction(() => document.getAnimations().every(({ playState }) => playState === 'finished'))
  const violations = await page.evaluate(`${axe.source}; axe.run()`).then((result) => (result as axe.AxeResults).violations)
  t.strictSame(violations.map(({ id, nodes }) => ({ id, nodes: nodes.map(({ html, failureSummary }) => ({ html, failureSummary })) })), [], name)
  if (folder && (!only || only.split(',').includes(name))) await page.screenshot({ path: `${folder}/web-${name}.png`, caret: 'initial' })
}
const open = async (options: BrowserContextOptions = {}, nickname?: string) => {
  const page = await openChat(t, browser, url, { viewport: { width: 900, height: 640 }, ...options })
  await sees(page, talk.at(-1)![1])
  if (nickname) await enter(page, nickname, 'login')
  await page.waitForFunction(() => document.querySelector('#scroller')!.scrollTop + document.querySelector('#scroller')!.clientHeight > document.querySelector('#scroller')!.scrollHeight - 2)
  return page
}
const phone = { viewport: { width: 390, height: 760 }, isMobile: true, hasTouch: true }

t.test('logged out', async () => {
  await look(await open(), 'logged-out')
  await look(await open({ ...phone, colorScheme: 'dark' }), 'logged-out-phone')
})

t.test('in the room', async () => {
  const page = await open({}, 'Ada')
  await page.fill('#text', 'Yes, go ahead')
  await look(page, 'desktop')
  await message(page, 'The numbers are in the README.').hover()
  await message(page, 'The numbers are in the README.').getByRole('button', { name: 'Edit' }).click()
  await look(page, 'editing')
  await page.keyboard.press('Escape')
  await page.fill('#text', 'x'.repeat(2010))
  await look(page, 'too-long')
})

t.test('dark, and on a phone', async () => {
  await look(await open({ colorScheme: 'dark' }, 'Ada'), 'dark')
  await look(await open(phone, 'Ada'), 'phone')
  await look(await open({ ...phone, colorScheme: 'dark', locale: 'ru-RU' }, 'Маша'), 'phone-dark')
})

t.test('the dialogs', async () => {
  for (const colorScheme of ['light', 'dark'] as const) {
    const page = await open({ colorScheme }, 'Ada')
    await page.click('#account')
    await page.locator('#sessions li').first().waitFor()
    await look(page, `account-${colorScheme}`)
    await page.keyboard.press('Escape')
    await message(page, 'The numbers are in the README.').hover()
    await message(page, 'The numbers are in the README.').getByRole('button', { name: 'Delete' }).click()
    await look(page, `delete-${colorScheme}`)
  }
})

t.test('errors', async () => {
  for (const colorScheme of ['light', 'dark'] as const) {
    const page = await open({ colorScheme }, 'Ada')
    await page.context().setOffline(true)
    await page.getByRole('status').filter({ hasText: 'You are offline' }).waitFor()
    await write(page, 'Yes, go ahead!')
    await page.locator('#pending .state').getByText('You are offline').waitFor()
    await look(page, `offline-${colorScheme}`)
    await page.context().setOffline(false)
    await page.locator('#pending li').waitFor({ state: 'detached' })
    await page.getByRole('status').filter({ hasText: 'Connected again' }).waitFor()
    await look(page, `again-${colorScheme}`)
    await page.click('#logout')
    await page.fill('input[name=nickname]', 'Ada')
    await page.fill('input[name=password]', 'wrong')
    await page.keyboard.press('Enter')
    await page.getByRole('alert').getByText('invalid credentials').waitFor()
    await look(page, `refused-${colorScheme}`)
  }
})

t.test('an empty room', async (t) => {
  const { url } = await startService(t)
  const page = await openChat(t, browser, url)
  await page.getByText('Nobody has said anything yet.').waitFor()
  await look(page, 'empty')
  await shows(page, [])
})

t.test('the first load is small, and one round trip deep', async (t) => {
  const page = await openChat(t, browser, 'about:blank')
  await page.addInitScript(() => {
    const watch = () => document.querySelector('#messages li') ? Object.assign(window, { firstMessageAt: performance.now() }) : requestAnimationFrame(watch)
    watch()
  })
  const load = async () => {
    await page.waitForFunction(() => 'firstMessageAt' in window)
    return page.evaluate(() => {
      const entries = [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')] as PerformanceResourceTiming[]
      const { length } = entries
      const sum = (what: 'transferSize' | 'decodedBodySize') => entries.reduce((total, entry) => total + entry[what], 0)
      const html = entries[0]!.responseEnd
      return {
        requests: length, bytes: sum('transferSize'), content: sum('decodedBodySize'), firstMessage: (window as unknown as { firstMessageAt: number }).firstMessageAt,
        late: entries.filter(({ name, startTime }) => startTime > html + 1000 && /web\/|messages/.test(name)).length, firstPaint: performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0,
        pages: entries.filter(({ name }) => name.includes('api/messages')).length
      }
    })
  }
  await page.goto(url)
  const first = await load()
  await page.reload()
  const second = await load()
  for (const [name, { requests, bytes, content, firstMessage, firstPaint }] of Object.entries({ first, second })) {
    t.comment(`${name} load: ${requests} requests, ${bytes} bytes on the wire for ${content} of content, first paint after ${Math.round(firstPaint)} ms, first message after ${Math.round(firstMessage)} ms`)
  }
  t.equal(first.pages, 1, 'the messages are asked for once')
  t.ok(first.bytes < 120_000 && second.bytes < 20_000)
})
