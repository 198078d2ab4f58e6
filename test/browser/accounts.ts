import t from 'tap'
import { startService } from '../helpers/app.ts'
import {
  audit,
  enter,
  choose,
  message,
  newPerson,
  openChat,
  PASSWORD,
  sees,
  startBrowser,
  texts,
  write
} from '../helpers/browser.ts'
import { connect } from '../helpers/database.ts'
import { waitUntil } from '../helpers/raw.ts'

const browser = await startBrowser(t)
t.jobs = 1

t.test('whoever has no account yet is offered one after a login that failed', async (t) => {
  const { url, call } = await startService(t)
  const page = await openChat(t, browser, url)
  const password = page.locator('input[name=password]')
  t.equal(await password.getAttribute('autocomplete'), 'current-password')
  await page.getByRole('button', { name: 'Create account' }).click()
  t.equal(await page.evaluate(() => document.activeElement!.id), 'nickname', 'the field that is empty')
  t.equal(await password.getAttribute('autocomplete'), 'new-password', 'so that one is suggested')

  await page.fill('input[name=nickname]', 'alice')
  await password.fill(PASSWORD)
  await page.getByRole('button', { name: 'Show password' }).click()
  t.equal(await password.getAttribute('type'), 'text')
  await page.getByRole('button', { name: 'Log in', exact: true }).click()
  await page.getByRole('alert').filter({ hasText: 'Wrong nickname or password.' }).waitFor()
  t.equal(await password.getAttribute('type'), 'password', 'a password that is sent is hidden again')
  await audit(t, page, 'the offer of an account')
  await page.selectOption('#language', 'ru')
  await page.locator('#create').getByText('Создать аккаунт').waitFor()
  t.equal(await page.getByRole('alert').filter({ visible: true }).count(), 0, 'nothing in the other language')
  await page.selectOption('#language', 'en')
  await page.getByRole('button', { name: 'Create an account as “alice”' }).click()
  await page.locator('#text').waitFor()
  t.equal(await page.getByRole('alert').filter({ visible: true }).count(), 0)
  t.equal((await call('POST', '/api/login', { body: { nickname: 'alice', password: PASSWORD } })).status, 200)
})

t.test('a session that expires says so; what was written stays in sight and is sent later', async (t) => {
  const { url, call } = await startService(t)
  const page = await openChat(t, browser, url)
  await enter(page, 'alice')
  await page.context().setOffline(true)
  await write(page, 'sent too late')
  await page.fill('#text', 'half a sent')
  const body = { nickname: 'alice', password: PASSWORD }
  const { token } = (await call('POST', '/api/login', { body })).body
  await call('DELETE', '/api/sessions', { token })
  await page.context().setOffline(false)
  await page.getByRole('alert').filter({ hasText: 'Your session has expired.' }).waitFor()
  const isAllThere = async () => {
    await page.locator('#pending li').filter({ hasText: 'sent too late' }).waitFor()
    await page.locator('#pending .state').getByText('Will be sent when you log in.').waitFor()
    t.equal(await page.inputValue('#text'), 'half a sent')
    t.ok(await page.locator('#text').isVisible())
    t.equal(await page.inputValue('input[name=nickname]'), 'alice')
  }
  await isAllThere()
  t.equal(await page.evaluate(() => document.activeElement!.id), 'password')
  await audit(t, page, 'an expired session')
  await page.reload()
  await isAllThere()
  await page.fill('input[name=password]', PASSWORD)
  await page.keyboard.press('Enter')
  await sees(page, 'sent too late')
  t.strictSame(await texts(page), ['sent too late'])
  t.equal(await page.inputValue('#text'), 'half a sent')

  await page.click('#logout')
  await page.locator('#entry').waitFor()
  t.equal(await page.inputValue('input[name=nickname]'), '', 'whoever logs out leaves no name behind')
  t.notOk(await page.locator('#text').isVisible())
})

t.test('a dialog that is closed before the answer comes leaves nothing behind', async (t) => {
  const { url } = await startService(t)
  const page = await openChat(t, browser, url) // It fails if anything throws.
  await enter(page, 'alice')
  /** Sends the form for the password, and closes the panel before the answer. */
  async function change(current: string, next: string) {
    let answer = () => {}
    const closed = new Promise<void>((resolve) => {
      answer = resolve
    })
    const asked = page.waitForRequest('**/api/password')
    await page.route('**/api/password', async (route) => {
      await closed
      await route.continue()
    })
    await page.click('#account')
    await page.fill('#secret-current', current)
    await page.fill('#secret-next', next)
    await page.locator('#change').getByRole('button', { name: 'Change password' }).click()
    await asked
    await page.keyboard.press('Escape')
    await page.locator('#settings').waitFor({ state: 'detached' })
    const answered = page.waitForResponse('**/api/password')
    answer()
    await answered
    await page.unroute('**/api/password')
  }
  await change('wrong', 'battery staple')
  await change(PASSWORD, 'battery staple')
  await page.getByRole('status').filter({ hasText: 'Password changed' }).waitFor()
  t.equal(await page.getByRole('alert').filter({ visible: true }).count(), 0)
})

t.test('the account: devices by their names, tokens for bots, and its deletion', async (t) => {
  const { url, call, register, post } = await startService(t)
  await post((await register()).token, 'of somebody else')
  const page = await openChat(t, browser, url)
  await enter(page, 'alice')
  await write(page, 'of alice')
  await sees(page, 'of alice')
  await page.click('#account')
  const dialog = page.getByRole('dialog')
  await dialog.locator('#sessions').getByText('Chrome on Linux').waitFor()
  t.notOk(await dialog.getByRole('button', { name: 'End all other sessions' }).isVisible(), 'there are none')

  await dialog.getByText('Bot tokens').click()
  await dialog.getByLabel('What is it for?').focus()
  await page.keyboard.insertText('🌦'.repeat(64))
  await dialog.getByRole('button', { name: 'Create token' }).click()
  await dialog
    .locator('#tokens li')
    .filter({ hasText: '🌦'.repeat(64) })
    .waitFor()
  await dialog.getByRole('button', { name: 'Revoke: 🌦' }).click()
  await dialog.locator('#tokens li').waitFor({ state: 'detached' })
  await dialog.getByLabel('What is it for?').fill('weather bot')
  await dialog.getByRole('button', { name: 'Create token' }).click()
  await dialog.locator('#tokens li').filter({ hasText: 'weather bot' }).waitFor()
  const token = await dialog.getByLabel('Copy the token now.').inputValue()
  const asBot = async () => (await call('GET', '/api/me', { token })).status
  t.equal(await asBot(), 200)
  await audit(t, page, 'bot tokens')
  await dialog.getByRole('button', { name: 'Revoke: weather bot' }).click()
  await dialog.locator('#tokens li').waitFor({ state: 'detached' })
  t.equal(await asBot(), 401)
  t.notOk(await dialog.getByLabel('Copy the token now.').isVisible())

  await dialog.locator('summary').getByText('Delete account').click()
  const form = dialog.locator('#leave')
  await form.getByLabel('Password', { exact: true }).fill('wrong')
  await form.getByRole('button', { name: 'Delete account' }).click()
  await dialog.getByRole('alert').filter({ hasText: 'Wrong password.' }).waitFor()
  await audit(t, page, 'deleting the account')
  await form.getByLabel('Password', { exact: true }).fill(PASSWORD)
  await form.getByRole('button', { name: 'Delete account' }).click()
  await page.locator('#entry').waitFor()
  await message(page, 'of alice').waitFor({ state: 'detached' })
  t.strictSame(await texts(page), ['of somebody else'])
  const body = { nickname: 'alice', password: PASSWORD }
  t.equal((await call('POST', '/api/login', { body })).status, 401)
})

t.test('the next person finds nothing of what somebody else began to write', async (t) => {
  const { url, call } = await startService(t)
  const page = await openChat(t, browser, url)
  const field = page.locator('#text')
  await enter(page, 'alice')
  await write(page, 'hello')
  await choose(message(page, 'hello'), 'Reply')
  await field.fill('a secret')
  await page.click('#logout')
  await enter(page, 'bob')
  t.equal(await field.inputValue(), '')
  t.equal(await page.locator('#replying').isVisible(), false)
  await page.click('#logout')

  await enter(page, 'alice', 'login')
  await choose(message(page, 'hello'), 'Edit')
  await page.click('#logout')
  await enter(page, 'bob', 'login')
  t.equal(await field.inputValue(), '')
  t.equal(await page.locator('#editing').isVisible(), false)
  await page.click('#logout')

  // A session that ended keeps the draft, for the same person alone, also after a reload.
  await enter(page, 'alice', 'login')
  await choose(message(page, 'hello'), 'Reply')
  await field.fill('another secret')
  const body = { nickname: 'alice', password: PASSWORD }
  const { token } = (await call('POST', '/api/login', { body })).body
  await call('DELETE', '/api/sessions', { token })
  await page.reload()
  await page.locator('#entry').waitFor()
  await page.reload()
  t.equal(await field.inputValue(), 'another secret')
  await enter(page, 'bob', 'login')
  await page.locator('#logout').waitFor()
  t.equal(await field.inputValue(), '')
  t.equal(await page.locator('#replying').isVisible(), false)
})

t.test(
  'a logout that the service cannot hear of says so, and is repeated, also after a reload',
  async (t) => {
    const { url, call } = await startService(t)
    const page = await openChat(t, browser, url)
    await enter(page, 'alice')
    const { token } = await page.evaluate(() => JSON.parse(localStorage['chat.session']))
    const status = async () => (await call('GET', '/api/me', { token })).status
    await page.route('**/api/logout', (route) => route.abort())
    await page.click('#logout')
    await page.getByRole('alert').filter({ hasText: 'You are logged out on this device.' }).waitFor()
    const tried = page.waitForRequest('**/api/logout')
    await page.reload()
    await tried
    t.equal(await status(), 200)
    await page.unroute('**/api/logout')
    await waitUntil('the session is over', async () => (await status()) === 401)
    await page.waitForFunction(() =>
      Object.keys(localStorage).every((name) => !name.startsWith('chat.logout'))
    )
    t.ok(await page.locator('#entry').isVisible())
  }
)

t.test('when the account is gone, the page does not ask to log in again', async (t) => {
  const { url, database } = await startService(t)
  const page = await openChat(t, browser, url)
  await enter(page, 'alice')
  const client = await connect(t, database)
  await client.query('delete from chat_user')
  await write(page, 'anybody?')
  const alert = page.getByRole('alert').filter({ hasText: 'Your account no longer exists.' })
  await alert.waitFor()
  t.equal(await alert.textContent(), 'Your account no longer exists.')
})

t.test('when a session has ended, each tab says so, and none ends a newer one', async (t) => {
  const { url, call } = await startService(t)
  const person = await newPerson(t, browser)
  const [page, other] = [await person.newPage(), await person.newPage()]
  await page.goto(url)
  await enter(page, 'alice')
  await other.goto(url)
  await other.locator('#text').waitFor()
  const endSessions = async () => {
    const body = { nickname: 'alice', password: PASSWORD }
    const { token } = (await call('POST', '/api/login', { body })).body
    await call('DELETE', '/api/sessions', { token })
  }
  await endSessions()
  await write(page, 'one')
  for (const each of [page, other]) {
    await each.getByRole('alert').filter({ hasText: 'Your session has expired.' }).waitFor()
  }

  // The other tab uses its token before it hears that somebody has logged in again.
  await enter(page, 'alice', 'login')
  await sees(other, 'one')
  await other.evaluate(() => {
    addEventListener('storage', (event) => event.stopImmediatePropagation(), { capture: true })
  })
  await endSessions()
  await write(page, 'two')
  await page.getByRole('alert').filter({ hasText: 'Your session has expired.' }).waitFor()
  await enter(page, 'alice', 'login')
  await sees(page, 'two')
  await write(other, 'three')
  await sees(page, 'three')
  t.ok(await page.locator('#composer').isVisible())
  t.ok(await other.locator('#composer').isVisible())
})

t.test('whoever ends sessions by the keyboard stays in the list of them', async (t) => {
  const { url, call } = await startService(t)
  const page = await openChat(t, browser, url)
  await enter(page, 'alice')
  const body = { nickname: 'alice', password: PASSWORD }
  for (let n = 0; n < 3; n++) await call('POST', '/api/login', { body })
  await page.click('#account')
  const items = page.locator('#sessions li')
  const isIn = () => page.evaluate(() => document.activeElement!.closest('#sessions') !== null)
  await items.nth(3).waitFor()
  await items.getByRole('button', { name: 'End' }).first().focus()
  await page.keyboard.press('Enter')
  await items.nth(3).waitFor({ state: 'detached' })
  t.ok(await isIn())
  await page.getByRole('button', { name: 'End all other sessions' }).focus()
  await page.keyboard.press('Enter')
  await items.nth(1).waitFor({ state: 'detached' })
  t.ok(await isIn())
})

t.test('a changed password is said to be changed, even if the sessions cannot be read', async (t) => {
  const { url } = await startService(t)
  const page = await openChat(t, browser, url)
  await enter(page, 'alice')
  await page.click('#account')
  const dialog = page.getByRole('dialog')
  await dialog.locator('#sessions li').waitFor()
  await page.route('**/api/sessions', (route) => route.abort())
  await dialog.getByLabel('Current password').fill(PASSWORD)
  await dialog.getByLabel('New password').fill('battery staple')
  await dialog.getByRole('button', { name: 'Change password' }).click()
  await dialog.getByRole('alert').filter({ hasText: 'Password changed' }).waitFor()
})

t.test('a page that the browser brings back knows who has logged in or out meanwhile', async (t) => {
  const { url, register } = await startService(t)
  const bob = await register()
  const page = await openChat(t, browser, url)
  await enter(page, 'alice')
  await page.fill('#text', 'of alice')
  // A page in the back/forward cache hears of no other tab.
  await page.evaluate((account) => {
    localStorage['chat.session'] = JSON.stringify(account)
    dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))
  }, bob)
  await page.locator('#me').getByText(bob.nickname).waitFor()
  t.equal(await page.inputValue('#text'), '')
})
