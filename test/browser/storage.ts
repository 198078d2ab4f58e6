import type { BrowserContext } from 'playwright-core'
import t from 'tap'
import { startService } from '../helpers/app.ts'
import {
  enter,
  newPerson,
  PASSWORD,
  refusePosts,
  sees,
  shows,
  startBrowser,
  write
} from '../helpers/browser.ts'

const browser = await startBrowser(t)
t.jobs = 1

const LOST_ON_RELOAD = /They will be lost if you reload or close this page/

/** Every way in which a browser can refuse to store. Each of them is set before the page begins. */
const refusals: Record<string, (context: BrowserContext) => Promise<unknown>> = {
  'it is full': (context) =>
    context.addInitScript(() => {
      let filler = localStorage['filler'] ?? ''
      for (let size = 2 ** 22; size >= 1; size /= 2) {
        try {
          localStorage.setItem('filler', filler + 'x'.repeat(size))
          filler += 'x'.repeat(size)
        } catch {}
      }
    }),
  'any access to it is refused (SecurityError)': (context) =>
    context.addInitScript(() => {
      for (const area of ['localStorage', 'sessionStorage']) {
        const get = () => {
          throw new DOMException('The operation is insecure.', 'SecurityError')
        }
        Object.defineProperty(window, area, { get, configurable: true })
      }
    }),
  'there is none': (context) =>
    context.addInitScript(() => {
      for (const area of ['localStorage', 'sessionStorage']) {
        Object.defineProperty(window, area, { value: null, configurable: true })
      }
    }),
  'each of its methods throws': (context) =>
    context.addInitScript(() => {
      for (const method of ['getItem', 'setItem', 'removeItem', 'key'] as const) {
        Storage.prototype[method] = () => {
          throw new DOMException('broken', 'NS_ERROR_FILE_CORRUPTED')
        }
      }
    })
}

for (const [refusal, refuse] of Object.entries(refusals)) {
  t.test(`the storage, when ${refusal}: what is unsent stays on the page, which says so`, async (t) => {
    const { url, call } = await startService(t)
    const person = await newPerson(t, browser)
    if (refusal !== 'it is full') await refuse(person)
    const page = await person.newPage()
    await page.goto(url)
    await enter(page, 'alice')
    // By now the space is used up by something else, and that the account is known does not depend on it.
    if (refusal === 'it is full') {
      await refuse(person)
      await page.reload()
      await page.locator('#text').waitFor()
    }
    await write(page, 'zero')
    await sees(page, 'zero')
    t.equal(await page.locator('#unsaved').isVisible(), false, 'there is nothing to warn of')

    await refusePosts(page)
    for (const text of ['one', 'two', 'three']) await write(page, text)
    await page.locator('#pending li:nth-child(3)').waitFor()
    await page.getByRole('status').filter({ hasText: LOST_ON_RELOAD }).waitFor()

    // The session ends, and a new login finds all of them.
    const body = { nickname: 'alice', password: PASSWORD }
    const { token } = (await call('POST', '/api/login', { body })).body
    await call('DELETE', '/api/sessions', { token })
    await page.unroute('**/api/messages')
    const entry = page.locator('#entry')
    // The page tries again by itself as well, perhaps before the button is clicked.
    await Promise.race([page.getByRole('button', { name: 'Try again' }).first().click(), entry.waitFor()])
    await entry.waitFor()
    await page.locator('#unsaved').waitFor() // also while nobody is logged in
    await enter(page, 'alice', 'login')
    await shows(page, ['zero', 'one', 'two', 'three'])
    await page.locator('#pending li').first().waitFor({ state: 'detached' })
    await page.locator('#unsaved').waitFor({ state: 'hidden' })
    await page.selectOption('#language', 'ru')
    await page.getByRole('button', { name: 'Отправить' }).waitFor()
  })
}

t.test('when there is space again, what is unsent is stored after all, and survives a reload', async (t) => {
  const { url } = await startService(t)
  const person = await newPerson(t, browser)
  const page = await person.newPage()
  await page.goto(url)
  await enter(page, 'alice')
  await refusePosts(page)
  await page.evaluate(() => {
    const { setItem } = Storage.prototype
    Storage.prototype.setItem = () => {
      throw new DOMException('full', 'QuotaExceededError')
    }
    Object.assign(window, {
      makeSpace: () => {
        Storage.prototype.setItem = setItem
      }
    })
  })
  await write(page, 'one')
  await page.locator('#unsaved').waitFor()
  await page.evaluate(() => (window as unknown as { makeSpace: () => void }).makeSpace())
  await write(page, 'two')
  await page.locator('#unsaved').waitFor({ state: 'hidden' })
  await page.reload()
  await page.locator('#pending li:nth-child(2)').waitFor()
  await page.unroute('**/api/messages')
  await shows(page, ['one', 'two'])
})
