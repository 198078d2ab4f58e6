import type { Page } from 'playwright-core'
import t, { type Test } from 'tap'
import { startService } from '../helpers/app.ts'
import {
  below,
  choose,
  drawn,
  enter,
  newPerson,
  openChat,
  openMenu,
  place,
  reachesTheEnd,
  sees,
  startBrowser,
  texts
} from '../helpers/browser.ts'
import { connect } from '../helpers/database.ts'
import { waitUntil } from '../helpers/raw.ts'

const browser = await startBrowser(t)
t.jobs = 1

const TALL = Array.from({ length: 1000 }, (_, line) => line + 1)
  .join('\n')
  .slice(0, 1998)

/** A room with a few messages, and what is needed to put more into it, past the limits of the service. */
async function makeRoom(t: Test) {
  const service = await startService(t)
  const { userId, token } = await service.register()
  const client = await connect(t, service.database)
  const insert = async (text: string) => {
    const sql = 'insert into chat_message (user_id, text, created_at) values ($1, $2, now()) returning id'
    const { rows } = await client.query<{ id: string }>(sql, [userId, text])
    return Number(rows[0]!.id)
  }
  for (let i = 1; i <= 20; i++) await insert(`before ${i}`)
  return { ...service, client, userId, token, insert, say: (text: string) => service.post(token, text) }
}

const item = (page: Page, id: number) => page.locator(`#messages li[data-id="${id}"]`)
const toggle = (page: Page, id: number) => item(page, id).locator('.toggle')
const height = (page: Page, id: number) => item(page, id).evaluate((element) => element.clientHeight)
const top = (page: Page, id: number) =>
  item(page, id).evaluate((element) => {
    return element.getBoundingClientRect().top
  })

t.test('a message that is too tall is folded, whatever makes it tall', async (t) => {
  const { url, insert } = await makeRoom(t)
  const talls = {
    '1,998 line breaks': `a${'\n'.repeat(1998)}b`,
    'a thousand lines': TALL,
    'two thousand wide characters': '漢'.repeat(2000),
    'one word of two thousand letters': 'W'.repeat(2000),
    'one word of two thousand emoji': '👍'.repeat(2000),
    'the widest character there is': '﷽'.repeat(2000),
    'carriage returns': 'a\r\n'.repeat(600),
    'paragraphs of prose': `${'It is a long established fact. '.repeat(12)}\n\n`.repeat(5)
  }
  const ids: Record<string, number> = {}
  for (const [name, text] of Object.entries(talls)) ids[name] = await insert(text)
  const short = await insert('one\ntwo\nthree')
  // Many code units, but few lines.
  const families = await insert('👩‍👩‍👧‍👦'.repeat(100))
  for (const width of [1100, 360]) {
    const page = await openChat(t, browser, url, { viewport: { width, height: 760 } })
    await item(page, families).waitFor()
    for (const [name, id] of Object.entries(ids)) {
      const shown = await height(page, id)
      t.ok(shown > 40 && shown < 420, `${name}: ${shown} px high, ${width} px wide`)
      t.equal(await toggle(page, id).textContent(), 'Show more', name)
    }
    for (const id of [short, families]) {
      t.equal(await item(page, id).locator('.fold:visible').count(), 0, 'and a short one is not')
    }
    await page.close()
  }
})

t.test(
  'Show more shows all of it where it is, and Show less folds it again, without losing the place',
  async (t) => {
    const { url, insert, say } = await makeRoom(t)
    const id = await insert(TALL)
    for (let i = 1; i <= 3; i++) await insert(`after ${i}`)
    const page = await openChat(t, browser, url)
    await sees(page, 'after 3')
    await reachesTheEnd(page)
    const before = await top(page, id)
    await toggle(page, id).click()
    await page.getByRole('button', { name: 'Show less', expanded: true }).waitFor()
    t.ok((await height(page, id)) > 10_000, 'all of it is there')
    t.equal(await item(page, id).locator('.text').textContent(), TALL)
    t.ok(Math.abs((await top(page, id)) - before) < 2, 'and it begins where it began')
    t.ok((await below(page)) > 10_000, 'the view does not run to the end')
    await say('news')
    await page.getByRole('button', { name: '1 new message' }).waitFor()
    t.ok(Math.abs((await top(page, id)) - before) < 2, 'also when something is new')

    // Somewhere in the middle, the button can be seen, and its place is kept.
    await page.locator('#scroller').evaluate((element) => {
      element.scrollTop += 5000
    })
    await drawn(page)
    const box = (await toggle(page, id).boundingBox())!
    t.ok(box.y > 60 && box.y < 650, `the button is at ${box.y}`)
    await page.mouse.click(box.x + box.width / 2, box.y + box.height / 2)
    await page.getByRole('button', { name: 'Show more', expanded: false }).waitFor()
    const after = (await toggle(page, id).boundingBox())!
    t.ok(Math.abs(after.y - box.y) < 2, 'the button stays under the pointer')
    t.ok((await height(page, id)) < 420)
    const controlled = await toggle(page, id).getAttribute('aria-controls')
    t.equal(controlled, await item(page, id).locator('.text').getAttribute('id'))
  }
)

t.test(
  'the keyboard unfolds and folds, passes over links that are folded away, and keeps the focus',
  async (t) => {
    const { url, insert } = await makeRoom(t)
    const [gap, rest] = ['\n'.repeat(40), '\n'.repeat(500)]
    const id = await insert(`https://example.com/first ${gap} https://example.com/last ${rest}`)
    await insert('https://example.com/next')
    const page = await openChat(t, browser, url)
    await item(page, id).waitFor()
    const focused = () => page.evaluate(() => document.activeElement!.textContent)
    await item(page, id).getByRole('link', { name: 'https://example.com/first' }).focus()
    await page.keyboard.press('Tab')
    t.equal(await focused(), 'Show more')
    await page.keyboard.press('Enter')
    t.equal(await focused(), 'Show less')
    t.equal(await page.evaluate(() => document.activeElement!.ariaExpanded), 'true')
    await page.keyboard.press('Shift+Tab')
    t.equal(await focused(), 'https://example.com/last')
    await page.keyboard.press('Tab')
    await page.keyboard.press('Space')
    t.equal(await focused(), 'Show more')
    await page.keyboard.press('Tab')
    t.match(await focused(), '⋯')
    await page.keyboard.press('Tab')
    t.equal(await focused(), 'https://example.com/next')
  }
)

t.test('in Russian, and in whatever language is chosen then', async (t) => {
  const { url, insert } = await makeRoom(t)
  const id = await insert(TALL)
  const page = await openChat(t, browser, url, { locale: 'ru-RU' })
  await item(page, id).waitFor()
  t.equal(await toggle(page, id).textContent(), 'Показать полностью')
  await toggle(page, id).click()
  t.equal(await toggle(page, id).textContent(), 'Свернуть')
  await page.selectOption('#language', 'en')
  await page.getByRole('button', { name: 'Show less' }).waitFor()
  t.ok((await height(page, id)) > 10_000, 'and it stays unfolded')
})

t.test(
  'an edit folds what has become tall, unfolds what no longer is, and leaves what was unfolded',
  async (t) => {
    const { url, client, insert } = await makeRoom(t)
    const [first, second] = [await insert('short for now'), await insert(TALL)]
    const page = await openChat(t, browser, url)
    await item(page, second).waitFor()
    await reachesTheEnd(page)
    const edit = (id: number, text: string) => {
      return client.query('update chat_message set text = $2 where id = $1', [id, text])
    }
    await edit(first, TALL)
    await toggle(page, first).waitFor()
    t.ok((await height(page, first)) < 420)
    t.ok((await below(page)) < 2, 'and the newest message is still seen')

    await toggle(page, second).click()
    await edit(second, `${TALL}\nand more`)
    await item(page, second).getByText('and more').waitFor()
    t.equal(await toggle(page, second).textContent(), 'Show less')
    t.ok((await height(page, second)) > 10_000)
    await toggle(page, second).focus()
    await edit(second, 'short again')
    await sees(page, 'short again')
    t.equal(await toggle(page, second).isVisible(), false)
    t.equal(await page.evaluate(() => document.activeElement!.id), 'scroller', 'the focus is not lost')
    await edit(first, 'short as it was')
    await sees(page, 'short as it was')
    t.equal(await toggle(page, first).isVisible(), false)
  }
)

t.test(
  'a window that gets narrow folds what is too tall then, a wide one unfolds it, and nothing jumps',
  async (t) => {
    const { url, insert } = await makeRoom(t)
    const id = await insert('word '.repeat(220))
    for (let i = 1; i <= 20; i++) await insert(`after ${i}`)
    const page = await openChat(t, browser, url)
    await sees(page, 'after 20')
    t.equal(await toggle(page, id).isVisible(), false)
    await page.setViewportSize({ width: 320, height: 760 })
    await toggle(page, id).waitFor()
    await reachesTheEnd(page)
    await page.setViewportSize({ width: 1100, height: 760 })
    await toggle(page, id).waitFor({ state: 'hidden' })
    await reachesTheEnd(page)

    await item(page, id + 1).evaluate((element) => element.scrollIntoView())
    await drawn(page)
    const before = await place(page, 'after 1')
    for (const width of [320, 700, 400, 1100]) {
      await page.setViewportSize({ width, height: 760 })
      await drawn(page)
      const moved = Math.abs((await place(page, 'after 1')) - before)
      t.ok(moved < 2, `${width} px wide: moved by ${moved} px`)
    }
  }
)

t.test('a tall message of my own is folded while it waits, and when it is there', async (t) => {
  const { url } = await makeRoom(t)
  const page = await openChat(t, browser, url)
  await enter(page, 'alice')
  await page.route('**/api/messages', (route) => route.abort())
  await page.fill('#text', TALL)
  await page.press('#text', 'Enter')
  const waiting = page.locator('#pending li')
  await waiting.getByRole('button', { name: 'Show more' }).waitFor()
  t.ok((await waiting.evaluate((element) => element.clientHeight)) < 460)
  await waiting.getByRole('button', { name: 'Discard' }).waitFor()
  await waiting.getByRole('button', { name: 'Show more' }).click()
  t.ok((await waiting.evaluate((element) => element.clientHeight)) > 10_000)
  await page.unroute('**/api/messages')
  await waiting.waitFor({ state: 'detached' })
  await page.locator('#messages').getByRole('button', { name: 'Show more' }).waitFor()
})

t.test('messages of megabytes do not freeze the page, and can be read all the same', async (t) => {
  const { url, client, insert } = await makeRoom(t)
  const LARGE = 2_000_000
  const word = await insert('x'.repeat(LARGE))
  const lines = await insert(`first${'\n'.repeat(LARGE)}`)
  const prose = await insert('It is https://example.com/a that counts. '.repeat(LARGE / 41))
  const address = await insert(`https://example.com/${'a'.repeat(LARGE)}`)
  const astral = await insert(`x${'👍'.repeat(LARGE / 4)}`)
  const last = await insert('the newest')
  const page = await (await newPerson(t, browser)).newPage()
  await page.addInitScript(() => {
    const tasks: number[] = []
    new PerformanceObserver((list) =>
      tasks.push(...list.getEntries().map(({ duration }) => duration))
    ).observe({ type: 'longtask', buffered: true })
    Object.assign(window, { tasks })
  })
  const longest = () => page.evaluate(() => Math.max(0, ...(window as unknown as { tasks: number[] }).tasks))
  await page.goto(url)
  // A page has at most 4 MiB, so some of them may have to be loaded by scrolling up.
  await item(page, last).waitFor()
  await page.locator('#scroller').hover()
  await waitUntil('all of them are on the page', async () => {
    if ((await item(page, word).count()) === 1) return true
    await page.mouse.wheel(0, -2000)
    return false
  })
  for (const id of [word, lines, prose, address, astral, last]) await item(page, id).waitFor()
  await waitUntil('the view is at the end', async () => {
    if ((await below(page)) < 2) return true
    await page.mouse.wheel(0, 2000)
    return false
  })
  t.comment(`longest task with five messages of 2 MB each: ${Math.round(await longest())} ms`)
  t.ok((await longest()) < 2000)
  const rendered = () => page.locator('#messages').evaluate((element) => element.textContent.length)
  t.ok((await rendered()) < 30_000, `${await rendered()} characters are on the page`)
  for (const id of [word, lines, prose, address, astral]) t.ok((await height(page, id)) < 420)
  t.equal(await item(page, address).locator('.text a').count(), 0, 'half an address is no link')
  t.ok((await item(page, prose).locator('.text a').count()) > 10, 'a whole one is')
  t.notMatch(
    await item(page, astral).locator('.text').textContent(),
    /[\ud800-\udbff]$/,
    'no character is cut'
  )

  // More and more of it, as far as one likes.
  await toggle(page, word).click()
  const length = (id: number) =>
    item(page, id)
      .locator('.text')
      .evaluate((element) => {
        return element.textContent.length
      })
  t.equal(await length(word), 20_000)
  const further = item(page, word).locator('.further')
  for (const expected of [40_000, 80_000]) {
    await further.focus()
    await page.keyboard.press('Enter')
    t.equal(await length(word), expected)
  }
  await toggle(page, word).click()
  t.ok((await length(word)) < 5000)
  const medium = await insert('y'.repeat(30_000))
  await toggle(page, medium).click()
  await item(page, medium).locator('.further').focus()
  await page.keyboard.press('Enter')
  t.equal(await length(medium), 30_000)
  t.equal(await page.evaluate(() => document.activeElement!.textContent), 'Show less', 'the focus goes on')

  // They arrive, change and go while the page is open, and all is as quick as ever.
  await client.query("update chat_message set text = repeat('z', 1000000) where id = $1", [last])
  await toggle(page, last).waitFor()
  await page.locator('#log p').filter({ hasText: 'yyy' }).waitFor({ state: 'attached' })
  const announced = await page.locator('#log').evaluate(({ textContent }) => textContent.length)
  t.ok(announced < 2000, 'and nobody has to listen to all of it')
  await enter(page, 'alice')
  await page.fill('#text', 'still here')
  await page.press('#text', 'Enter')
  await sees(page, 'still here')
  t.comment(`longest task after all of it: ${Math.round(await longest())} ms`)
  t.ok((await longest()) < 2000)
  t.ok((await texts(page)).every((text) => text.length < 50_000))
})

t.test(
  'a message of my own of a megabyte can be deleted, and one that is somewhat too long can be edited',
  async (t) => {
    const { url, client, call } = await makeRoom(t)
    const page = await openChat(t, browser, url)
    await enter(page, 'alice')
    const { rows } = await client.query<{ id: string }>("select id from chat_user where nickname = 'alice'")
    const insert = async (length: number) => {
      const sql = `insert into chat_message (user_id, text, created_at)
      values ($1, repeat('x', $2), now()) returning id`
      const {
        rows: [row]
      } = await client.query<{ id: string }>(sql, [rows[0]!.id, length])
      return Number(row!.id)
    }
    const [some, many] = [await insert(2500), await insert(1_000_000)]
    await openMenu(item(page, many))
    t.equal(await page.getByRole('menuitem', { name: 'Edit' }).count(), 0)
    await page.getByRole('menuitem', { name: 'Delete' }).click()
    t.ok((await page.locator('#deleted').evaluate((element) => element.textContent.length)) <= 1000)
    await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click()
    await item(page, many).waitFor({ state: 'detached' })
    await choose(item(page, some), 'Edit')
    t.equal(await page.locator('#count').textContent(), '500 characters too many')
    await page.fill('#text', 'shorter')
    await page.press('#text', 'Enter')
    await sees(page, 'shorter')
    t.equal((await call('GET', '/api/messages?limit=1')).body[0].text, 'shorter')
  }
)
