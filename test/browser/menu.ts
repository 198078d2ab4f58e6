import type { Page } from 'playwright-core'
import t, { type Test } from 'tap'
import { startService } from '../helpers/app.ts'
import {
  audit,
  choose,
  enter,
  message,
  newPerson,
  openMenu,
  reachesTheEnd,
  sees,
  startBrowser,
  write
} from '../helpers/browser.ts'

const browser = await startBrowser(t)
t.jobs = 1

/** A room with a message of somebody else and one of the reader's own. */
async function openRoom(t: Test, options = {}) {
  const { url, register, post } = await startService(t)
  const { token } = await register()
  const theirs = await post(token, 'theirs')
  const permissions = ['clipboard-read', 'clipboard-write']
  const page = await (await newPerson(t, browser, { permissions, ...options })).newPage()
  await page.goto(url)
  await sees(page, 'theirs')
  return { url, page, post, token, theirs }
}

const entries = (page: Page) => page.getByRole('menuitem').allTextContents()
/** Resolves once that text is on the clipboard, which the browser writes in its own time. */
const copies = (page: Page, text: string) =>
  page.waitForFunction(async (text) => (await navigator.clipboard.readText()) === text, text)
const focused = (page: Page) => page.evaluate(() => document.activeElement!.textContent.trim())
const isOpen = (page: Page) => page.getByRole('menu').isVisible()

t.test('a message has one menu, which offers what the reader may do with it', async (t) => {
  const { page } = await openRoom(t)
  await openMenu(message(page, 'theirs'))
  t.ok((await entries(page)).includes('Copy text'), 'also for readers who are not logged in')
  for (const entry of ['Edit', 'Delete']) t.notOk((await entries(page)).includes(entry), entry)
  await page.keyboard.press('Escape')
  await enter(page, 'alice')
  await write(page, 'mine')
  await sees(page, 'mine')
  await openMenu(message(page, 'theirs'))
  for (const entry of ['Edit', 'Delete']) t.notOk((await entries(page)).includes(entry), entry)
  await message(page, 'mine').click({ button: 'right' })
  for (const entry of ['Copy text', 'Edit', 'Delete']) t.ok((await entries(page)).includes(entry), entry)
  await audit(t, page, 'a menu', { isResizable: false })
  await page.getByRole('menuitem', { name: 'Copy text' }).click()
  await copies(page, 'mine')
  t.notOk(await isOpen(page))

  await openMenu(message(page, 'mine'))
  await page.mouse.click(5, 300)
  t.notOk(await isOpen(page), 'a click beside it closes it')
})

t.test('the menu needs no mouse', async (t) => {
  const { page, post, token } = await openRoom(t)
  await post(token, 'second')
  await sees(page, 'second')
  await page.focus('#scroller')
  await page.keyboard.press('Tab')
  const owner = () =>
    page.evaluate(() => document.activeElement!.closest('li')?.querySelector('.text')!.textContent)
  t.equal(await owner(), 'theirs', 'each message is one tab stop')
  await page.keyboard.press('Tab')
  t.equal(await owner(), 'second')
  const described = await page.locator('.more:focus').getAttribute('aria-describedby')
  const description = described!.split(' ').map((id) => page.locator(`#${id}`).textContent())
  t.match(await Promise.all(description), [/^user/, 'second'], 'a screen reader says whose and what it is')
  await page.keyboard.press('ArrowUp')
  t.equal(await owner(), 'theirs', 'and the arrow keys go from one to the next')
  await page.keyboard.press('Enter')
  const all = await entries(page)
  t.equal(await focused(page), all[0])
  await page.keyboard.press('ArrowUp')
  t.equal(await focused(page), all.at(-1))
  await page.keyboard.press('ArrowDown')
  t.equal(await focused(page), all[0])
  await page.keyboard.press('Escape')
  t.notOk(await isOpen(page))
  t.equal(await owner(), 'theirs', 'the focus is where it was')
  await page.keyboard.press('Shift+F10')
  t.ok(await isOpen(page), 'the key for menus opens it as well')

  await page.keyboard.press('Escape')
  await enter(page, 'alice')
  await write(page, 'mine')
  await message(page, 'mine').locator('.more').focus()
  await page.keyboard.press('Enter')
  await page.keyboard.press('ArrowUp')
  await page.keyboard.press('Enter')
  await page.getByRole('dialog').getByRole('button', { name: 'Cancel' }).waitFor()
  await page.keyboard.press('Enter')
  t.equal(await owner(), 'mine', 'whoever does not delete is where they were')
})

t.test('a finger that rests on a message opens its menu, and one that scrolls does not', async (t) => {
  const { page } = await openRoom(t, {
    viewport: { width: 320, height: 640 },
    isMobile: true,
    hasTouch: true
  })
  const { x, y } = (await message(page, 'theirs').locator('.text').boundingBox())!
  const devices = await page.context().newCDPSession(page)
  const touch = (type: 'touchStart' | 'touchMove' | 'touchEnd', at?: number) =>
    devices.send('Input.dispatchTouchEvent', {
      type,
      touchPoints: at === undefined ? [] : [{ x: x + 5, y: at }]
    })
  await touch('touchStart', y + 5)
  await touch('touchMove', y + 40)
  await page.waitForTimeout(700) // longer than a finger has to rest
  t.notOk(await isOpen(page))
  await touch('touchEnd')
  await touch('touchStart', y + 5)
  await page.getByRole('menu').waitFor()
  await touch('touchEnd')
  await audit(t, page, 'a menu by a finger', { isResizable: false })
  await page.getByRole('menuitem', { name: 'Copy text' }).tap()
  await copies(page, 'theirs')
})

t.test('the menu of a message that is deleted closes', async (t) => {
  const { page } = await openRoom(t)
  await enter(page, 'alice')
  await write(page, 'mine')
  await sees(page, 'mine')
  const other = await page.context().newPage()
  await other.goto(page.url())
  await sees(other, 'mine')
  await openMenu(message(other, 'mine'))
  await page.bringToFront()
  await choose(message(page, 'mine'), 'Delete')
  await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click()
  await other.getByRole('menu').waitFor({ state: 'hidden' })
  await reachesTheEnd(other)
})

t.test('the keyboard goes on where one writes if a message is deleted while its menu is open', async (t) => {
  const { page, post, token, url } = await openRoom(t)
  const { id } = await post(token, 'last')
  await message(page, 'last').locator('.more').focus()
  await page.keyboard.press('Enter')
  await page.getByRole('menuitem', { name: 'Copy text' }).waitFor()
  await fetch(`${url}/api/messages/${id}`, {
    method: 'DELETE',
    headers: { authorization: `Bearer ${token}` }
  })
  await page.getByRole('menu').waitFor({ state: 'hidden' })
  t.equal(await page.evaluate(() => document.activeElement!.id), 'writing')
})
