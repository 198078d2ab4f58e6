import t from 'tap'
import { startService } from '../helpers/app.ts'
import { enter, newPerson, refusePosts, sees, shows, startBrowser, texts, write } from '../helpers/browser.ts'

const browser = await startBrowser(t)
t.jobs = 1

/** What another tab, or the reader in the browser's settings, may do to the storage. */
const removals: Record<string, () => void> = {
  'clears everything': () => localStorage.clear(),
  'removes what is unsent': () => {
    const keys = Object.keys(localStorage).filter((key) => key.startsWith('chat.outbox.'))
    for (const key of keys) localStorage.removeItem(key)
  },
  'writes something else over what is unsent': () => {
    const keys = Object.keys(localStorage).filter((key) => key.startsWith('chat.outbox.'))
    for (const key of keys) localStorage.setItem(key, '{"text":')
  },
  'writes something else over everything': () => {
    for (const key of Object.keys(localStorage)) localStorage.setItem(key, '[null]')
  }
}

for (const [removal, remove] of Object.entries(removals)) {
  t.test(`another tab ${removal}: what is unsent is sent all the same, and once`, async (t) => {
    const { url } = await startService(t)
    const person = await newPerson(t, browser)
    const [page, other] = [await person.newPage(), await person.newPage()]
    await page.goto(url)
    await enter(page, 'alice')
    await refusePosts(page)
    for (const text of ['one', 'two', 'three']) await write(page, text)
    await page.locator('#pending li:nth-child(3)').waitFor()
    await other.goto(`${url}/api/openapi.json`) // the same storage, without the chat
    await other.evaluate(remove)
    if (removal === 'clears everything') {
      await page.locator('#entry').waitFor()
      await enter(page, 'alice', 'login')
    }
    await page.locator('#pending li:nth-child(3)').waitFor()
    t.strictSame(await page.locator('#pending .text').allTextContents(), ['one', 'two', 'three'])
    // And it is stored again, as soon as the page has heard from the browser what the other tab did.
    await page.waitForFunction(() => {
      const names = Object.keys(localStorage).filter((name) => name.startsWith('chat.outbox.'))
      return names.filter((name) => localStorage[name].includes('"userId"')).length === 3
    })
    await page.reload()
    if (removal.includes('everything')) {
      await page.locator('#text:visible, #entry:visible').waitFor()
      if (await page.locator('#entry').isVisible()) await enter(page, 'alice', 'login')
    }
    await page.locator('#pending li:nth-child(3)').waitFor()
    await page.unroute('**/api/messages')
    await shows(page, ['one', 'two', 'three'])
    await page.waitForFunction(() => Object.keys(localStorage).every((key) => !key.startsWith('chat.outbox')))
  })
}

t.test('what one tab has sent or discarded, another one does not send again', async (t) => {
  const { url } = await startService(t)
  const person = await newPerson(t, browser)
  const [page, other] = [await person.newPage(), await person.newPage()]
  for (const tab of [page, other]) {
    await tab.goto(url)
    await refusePosts(tab)
  }
  await enter(page, 'alice')
  await other.locator('#text').waitFor()
  for (const text of ['discarded', 'sent']) await write(page, text)
  await other.locator('#pending li:nth-child(2)').waitFor()
  const first = page.locator('#pending li').filter({ hasText: 'discarded' })
  await first.getByRole('button', { name: 'Discard' }).click()
  await other.locator('#pending li:nth-child(2)').waitFor({ state: 'detached' })
  t.strictSame(await other.locator('#pending .text').allTextContents(), ['sent'])
  await page.unroute('**/api/messages')
  await sees(page, 'sent')
  await other.locator('#pending li').waitFor({ state: 'detached' })
  await shows(other, ['sent'])
  const stored = await page.evaluate(() => Object.keys(localStorage))
  t.strictSame(
    stored.filter((key) => key.startsWith('chat.outbox')),
    []
  )
})

const SHAPES = [
  '',
  '{',
  'undefined',
  'null',
  '0',
  '""',
  '"x"',
  'true',
  '[]',
  '[[]]',
  '{}',
  '{"token":5}',
  '\ud800',
  '\u0000',
  'x'.repeat(100_000),
  '{"token":"","userId":1,"nickname":"alice"}',
  '{"token":"a\\nb","userId":1,"nickname":"alice"}',
  '{"token":"тест","userId":1,"nickname":"alice"}',
  '{"token":"abc","userId":"1","nickname":"alice"}',
  '{"token":"abc","userId":1}',
  '{"token":"abc","userId":1,"nickname":{}}',
  '{"key":"x","userId":1,"text":5}',
  '{"key":"x","userId":1,"text":null}',
  '{"key":"другой","userId":1,"text":"x"}',
  '{"__proto__":{"token":"abc"},"constructor":null}'
]

t.test('whatever is in the storage, the page lives, and one can log in and write', async (t) => {
  const { url } = await startService(t)
  const names = ['session', 'language', 'outbox.x', 'outbox.', 'draft', 'read', 'reply', '', 'constructor']
  const page = await (await newPerson(t, browser)).newPage()
  for (const [i, shape] of SHAPES.entries()) {
    await page.goto(`${url}/api/openapi.json`) // the same storage, without the chat
    await page.evaluate(
      ({ names, shape }) => {
        for (const storage of [localStorage, sessionStorage]) {
          storage.clear()
          for (const name of names) storage.setItem(`chat.${name}`, shape)
        }
      },
      { names, shape }
    )
    await page.goto(url)
    await enter(page, `user ${i}`)
    await write(page, `message ${i}`)
    await sees(page, `message ${i}`)
    t.equal(await page.locator('#me').textContent(), `user ${i}`, JSON.stringify(shape.slice(0, 60)))
  }
})

t.test('one invalid entry does not affect the valid ones', async (t) => {
  const { url } = await startService(t)
  const person = await newPerson(t, browser)
  const page = await person.newPage()
  await page.goto(url)
  await enter(page, 'alice')
  await refusePosts(page)
  for (const text of ['one', 'two']) await write(page, text)
  await page.locator('#pending li:nth-child(2)').waitFor()
  await page.evaluate((shapes) => {
    const { userId } = JSON.parse(localStorage['chat.session']!) as { userId: number }
    shapes.forEach((shape, i) => localStorage.setItem(`chat.outbox.${i}`, shape))
    const put = (key: string, rest: object) => {
      localStorage.setItem(`chat.outbox.${key}`, JSON.stringify({ key, userId, at: 1, after: 0, ...rest }))
    }
    put('not text', { text: ['x'] })
    put('a\nb', { text: 'a key that is no header' })
    put('ключ', { text: 'another one' })
    put('k'.repeat(65), { text: 'too long a key' })
    put('elsewhere', { key: 'somewhere', text: 'under another name' })
    put('foreign', { text: 'of somebody else', userId: userId + 1 })
    put('empty', { text: '' })
    put('timeless', { text: 'zero', at: 'yesterday', after: null, failure: 'x', isTried: {} })
  }, SHAPES)
  await page.reload()
  await page.locator('#pending li:nth-child(3)').waitFor()
  await page.unroute('**/api/messages')
  await shows(page, ['zero', 'one', 'two'])
  await write(page, 'three')
  await sees(page, 'three')
  t.strictSame(await texts(page), ['zero', 'one', 'two', 'three'])
})
