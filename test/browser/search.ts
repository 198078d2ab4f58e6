import t from 'tap'
import { startService } from '../helpers/app.ts'
import { audit, message, openChat, sees, startBrowser } from '../helpers/browser.ts'
import { connect } from '../helpers/database.ts'
import { waitUntil } from '../helpers/raw.ts'

const browser = await startBrowser(t)
t.jobs = 1

t.test('what is searched is found while one types, and leads to its place in the room', async (t) => {
  const { url, register, call, database } = await startService(t)
  const { userId } = await register()
  const client = await connect(t, database)
  const fill = 'insert into chat_message (user_id, text, created_at) select $1, $2 || n, now()'
  await client.query(`${fill} from generate_series(1, 1) n`, [userId, 'the needle is release '])
  await client.query(`${fill} from generate_series(1, 400) n`, [userId, 'hay '])
  await waitUntil('the index is complete', async () => {
    const { body, headers } = await call('GET', '/api/search?q=needles')
    return body.length === 1 && !headers.has('x-search-incomplete')
  })
  const page = await openChat(t, browser, url)
  await sees(page, 'hay 400')
  await page.getByRole('button', { name: 'Search' }).click()
  const input = page.getByRole('searchbox', { name: 'Search' })
  await input.fill('zebra')
  await page.getByText('Nothing found.').waitFor()
  await audit(t, page, 'nothing found')
  await input.fill('needles')
  const result = page.locator('#results a')
  await result.filter({ hasText: 'the needle is release 1' }).waitFor()
  t.equal(await result.locator('mark').textContent(), 'needle', 'the word is marked')
  await page.getByRole('status').getByText('1 message found').waitFor()
  await audit(t, page, 'search results')

  await input.fill('hay')
  await result.nth(19).waitFor()
  await page.getByRole('button', { name: 'Show older' }).click()
  await result.nth(39).waitFor()
  t.match(await result.first().textContent(), 'hay 400', 'the newest comes first')
  t.match(await result.nth(39).textContent(), 'hay 361')

  await input.clear()
  await page.keyboard.insertText('😀'.repeat(100))
  t.equal(await input.inputValue(), '😀'.repeat(100), 'as many characters as the service takes')
  await page.getByText('Nothing found.').waitFor()

  await input.fill('needle')
  await result.filter({ hasText: 'the needle is release 1' }).waitFor()
  await page.keyboard.press('ArrowDown')
  await page.keyboard.press('Enter')
  await message(page, 'the needle is release 1').waitFor()
  t.equal(await page.getByRole('dialog').count(), 0)
})

t.test('a search that goes on does not say that there is nothing, and keeps the focus', async (t) => {
  const { url, register, post, call } = await startService(t)
  await post((await register()).token, 'the needle')
  await waitUntil('it is indexed', async () => {
    return (await call('GET', '/api/search?q=needle')).body.length === 1
  })
  const page = await openChat(t, browser, url)
  const stopped = { headers: { 'x-search-next': '1000' }, json: [] }
  await page.route('**/api/search?*', (route) => route.fulfill(stopped), { times: 1 })
  await page.getByRole('button', { name: 'Search' }).click()
  await page.getByRole('searchbox', { name: 'Search' }).fill('needle')
  await page.getByRole('button', { name: 'Show older' }).focus()
  t.equal(await page.getByRole('dialog').getByRole('status').textContent(), 'Nothing found so far.')
  await page.keyboard.press('Enter')
  await page.getByText('1 message found').waitFor()
  await page.waitForFunction(() => document.activeElement?.matches('#results li'))
})
