import type { Page } from 'playwright-core'
import t, { type Test } from 'tap'
import {
  audit,
  choose,
  drawn,
  enter,
  logIn,
  message,
  newPerson,
  openChat,
  openMenu,
  PASSWORD,
  sees,
  shows,
  startBrowser,
  write
} from '../helpers/browser.ts'
import { startModerated, type Role } from '../helpers/people.ts'
import { waitUntil } from '../helpers/raw.ts'

const browser = await startBrowser(t)
t.jobs = 1

t.test('members report, and are told why they cannot write; moderators act on what they see', async (t) => {
  const { url, call, registerAs, post } = await startModerated(t)
  const enterAs = async (role: Role) => {
    const user = await registerAs(role)
    const page = await (await newPerson(t, browser)).newPage()
    await page.goto(url)
    await page.fill('input[name=nickname]', user.nickname)
    await page.fill('input[name=password]', PASSWORD)
    await page.keyboard.press('Enter')
    await page.locator('#text').waitFor()
    return { page, ...user }
  }
  const mallory = await enterAs('member')
  const alice = await enterAs('member')
  const moderator = await enterAs('moderator')
  const entries = async (page: Page, text: string) => {
    await openMenu(message(page, text))
    const found = await page.getByRole('menuitem').allTextContents()
    await page.keyboard.press('Escape')
    return found
  }
  const dialog = (page: Page) => page.getByRole('dialog').last()
  const open = moderator.page.getByRole('button', { name: 'Moderation' })
  const tab = (name: string) => dialog(moderator.page).getByRole('tab', { name }).click()
  const closePanel = () => dialog(moderator.page).getByRole('button', { name: 'Close' }).click()

  await write(mallory.page, 'buy my pills')
  await write(mallory.page, 'cheap!')
  for (const { page } of [alice, moderator]) await sees(page, 'cheap!')
  t.ok((await entries(alice.page, 'cheap!')).includes('Report…'))
  for (const entry of ['Delete', 'Mute…', 'Ban…']) {
    t.notOk((await entries(alice.page, 'cheap!')).includes(entry), `a member cannot: ${entry}`)
    t.ok((await entries(moderator.page, 'cheap!')).includes(entry), `a moderator can: ${entry}`)
  }
  t.notOk((await entries(mallory.page, 'cheap!')).includes('Report…'), 'nobody reports themselves')
  t.notOk(await alice.page.getByRole('button', { name: 'Moderation' }).isVisible())

  await choose(message(alice.page, 'buy my pills'), 'Report…')
  await dialog(alice.page).getByLabel('What is wrong with it?').fill('spam')
  await audit(t, alice.page, 'a report')
  await dialog(alice.page).getByRole('button', { name: 'Report' }).click()
  await alice.page.getByText('Thank you.').waitFor()

  await open.click()
  const report = dialog(moderator.page).locator('.report')
  await report.filter({ hasText: 'buy my pills' }).filter({ hasText: 'Reason: spam' }).waitFor()
  await audit(t, moderator.page, 'reports')
  await report.getByRole('button', { name: 'Mute…' }).click()
  await audit(t, moderator.page, 'muting')
  await dialog(moderator.page).getByLabel('For how long?').selectOption('3600')
  await dialog(moderator.page).getByLabel('Reason').fill('advertising')
  await dialog(moderator.page).getByRole('button', { name: 'Mute' }).click()
  await moderator.page.locator('#ask').waitFor({ state: 'detached' })
  // While the list is loaded again, its buttons do nothing.
  await moderator.page.locator('#moderation-panel:not([aria-busy])').waitFor()
  await report.getByRole('button', { name: 'Dismiss' }).click()
  await dialog(moderator.page).getByText('Nothing here.').waitFor()
  await tab('Restrictions')
  await dialog(moderator.page).getByText('Reason: advertising').waitFor()
  await audit(t, moderator.page, 'restrictions')
  await tab('Log')
  await dialog(moderator.page).getByText(`${moderator.nickname} muted ${mallory.nickname} until`).waitFor()
  await audit(t, moderator.page, 'the moderation log')

  await write(mallory.page, 'more pills')
  await mallory.page.locator('#pending .state').getByText('Not sent. You are muted until').waitFor()
  await mallory.page.locator('#rules').getByText('You can read, but not post.').waitFor()
  await mallory.page.getByRole('button', { name: 'Send', disabled: true }).waitFor()
  await audit(t, mallory.page, 'muted')
  await tab('Restrictions')
  await dialog(moderator.page)
    .getByRole('button', { name: `Lift: ${mallory.nickname}` })
    .click()
  await dialog(moderator.page).getByText('Nothing here.').waitFor()

  await tab('Room')
  await dialog(moderator.page).getByLabel('Topic').fill('No pills')
  await dialog(moderator.page).getByLabel('Slow mode').selectOption('3600')
  await dialog(moderator.page).getByRole('button', { name: 'Save' }).click()
  await dialog(moderator.page).getByText('Saved.').waitFor()
  await audit(t, moderator.page, 'the settings of the room')
  await alice.page.locator('#topic').getByText('No pills').waitFor()
  await alice.page.locator('#rules').getByText('Slow mode: 1 hour between messages.').waitFor()
  await write(alice.page, 'once an hour')
  await sees(alice.page, 'once an hour')
  await alice.page.locator('#countdown').getByText('You can post again in 60 minutes.').waitFor()
  await audit(t, alice.page, 'slow mode')
  await write(alice.page, 'at once')
  t.equal(await alice.page.inputValue('#text'), 'at once', 'what comes too soon is not sent')
  t.equal(await alice.page.locator('#pending li').count(), 0)

  await dialog(moderator.page).getByLabel('Slow mode').selectOption('0')
  await dialog(moderator.page).getByLabel('Read-only').check()
  await dialog(moderator.page).getByRole('button', { name: 'Save' }).click()
  await alice.page.locator('#rules').getByText('The room is read-only').waitFor()
  await audit(t, alice.page, 'read-only')
  await closePanel()
  await write(moderator.page, 'moderators may')
  await sees(alice.page, 'moderators may')

  await post(mallory.token, 'refused')
  await audit(t, moderator.page, 'the page of a moderator')
  await choose(message(moderator.page, 'cheap!'), 'Ban…')
  await audit(t, moderator.page, 'banning')
  await dialog(moderator.page).getByLabel('For how long?').selectOption('0')
  await dialog(moderator.page).getByLabel('Delete all of their messages').check()
  await dialog(moderator.page).getByRole('button', { name: 'Ban' }).click()
  await shows(alice.page, ['once an hour', 'moderators may'])
  const body = { nickname: mallory.nickname, password: PASSWORD }
  t.match(await call('POST', '/api/login', { body }), { status: 403, body: { code: 'banned' } })

  await choose(message(moderator.page, 'once an hour'), 'Delete all of their messages…')
  await audit(t, moderator.page, 'deleting all messages')
  await dialog(moderator.page).getByRole('button', { name: 'Delete' }).click()
  await shows(alice.page, ['moderators may'])
})

t.test('an admin makes and unmakes moderators, who learn of it when they look at the page', async (t) => {
  const { url, call, registerAs, post } = await startModerated(t)
  const admin = await registerAs('admin')
  const bob = await registerAs('member')
  await post(bob.token, 'good evening')
  const open = async ({ nickname }: { nickname: string }) => {
    const page = await openChat(t, browser, url)
    await enter(page, nickname, 'login')
    await sees(page, 'good evening')
    return page
  }
  const page = await open(admin)
  const bobs = await open(bob)
  const dialog = page.getByRole('dialog').last()
  const role = async () => (await call('GET', '/api/me', { token: bob.token })).body.role as string
  const shield = bobs.getByRole('button', { name: 'Moderation' })
  const lookAgain = () => bobs.evaluate(() => document.dispatchEvent(new Event('visibilitychange')))
  t.notOk(await shield.isVisible())

  await choose(message(page, 'good evening'), 'Change role…')
  await audit(t, page, 'a role')
  await dialog.getByRole('radio', { name: 'Moderator' }).check()
  await dialog.getByRole('button', { name: 'Save' }).click()
  await page
    .getByRole('status')
    .filter({ hasText: `New role for ${bob.nickname}: Moderator.` })
    .waitFor()
  t.equal(await role(), 'moderator')
  await lookAgain()
  await shield.waitFor()
  await openMenu(message(bobs, 'good evening'))
  t.notOk((await bobs.getByRole('menuitem').allTextContents()).includes('Change role…'), 'only admins do')
  await bobs.keyboard.press('Escape')

  // Whoever has written nothing can be found in the log.
  await page.getByRole('button', { name: 'Moderation' }).click()
  await dialog.getByRole('tab', { name: 'Log' }).click()
  await dialog.getByText(`${admin.nickname} changed the role of ${bob.nickname} to Moderator`).waitFor()
  await dialog.getByRole('button', { name: `Change role…: ${bob.nickname}` }).click()
  await dialog.getByRole('radio', { name: 'Member' }).check()
  await dialog.getByRole('button', { name: 'Save' }).click()
  await dialog.getByText(`changed the role of ${bob.nickname} to Member`).waitFor()
  t.equal(await role(), 'member')
  await lookAgain()
  await shield.waitFor({ state: 'hidden' })

  await dialog.getByRole('button', { name: 'Close' }).click()
  await write(page, 'I resign')
  await choose(message(page, 'I resign'), 'Change role…')
  await dialog.getByRole('radio', { name: 'Member' }).check()
  await dialog.getByRole('button', { name: 'Save' }).click()
  await dialog.getByRole('alert').filter({ hasText: 'last admin' }).waitFor()
})

/** The service, and pages on which somebody with a role is logged in. */
async function startWithPages(t: Test) {
  const service = await startModerated(t)
  const login = async (page: Page, { nickname }: { nickname: string }) => {
    await page.goto(service.url)
    await enter(page, nickname, 'login')
  }
  const enterAs = async (role: Role) => {
    const user = await service.registerAs(role)
    const page = await (await newPerson(t, browser)).newPage()
    await login(page, user)
    return { ...user, page }
  }
  /** A moderator with the panel open. */
  const enterPanel = async () => {
    const moderator = await enterAs('moderator')
    await moderator.page.getByRole('button', { name: 'Moderation' }).click()
    const dialog = moderator.page.getByRole('dialog').last()
    const tab = (name: string) => dialog.getByRole('tab', { name })
    await dialog.getByText('Nothing here.').waitFor()
    return { ...moderator, dialog, tab }
  }
  const { call } = service
  const restrict = (token: string, userId: number, body: object) =>
    call('PUT', `/api/users/${userId}/restriction`, { token, body })
  return { ...service, login, enterAs, enterPanel, restrict }
}

t.test('a mute that ends by itself is over on the page, however much others write', async (t) => {
  const { enterAs, registerAs, restrict, post } = await startWithPages(t)
  const { token } = await registerAs('moderator')
  const { page, userId } = await enterAs('member')
  await restrict(token, userId, { kind: 'mute', until: new Date(Date.now() + 5000).toISOString() })
  await write(page, 'muted')
  await page.locator('#rules').getByText('You can read, but not post.').waitFor()
  await waitUntil('she can write again', async () => {
    await post(token, 'something new')
    return page.getByRole('button', { name: 'Send', disabled: false }).isVisible()
  })
  t.equal(await page.locator('#rules').isVisible(), false)
})

t.test('a mute that is lifted is over on the page a minute later, however much others write', async (t) => {
  const { call, enterAs, registerAs, restrict, post } = await startWithPages(t)
  const { token } = await registerAs('moderator')
  const { page, userId } = await enterAs('member')
  await page.clock.install()
  // What it asks there must not tell of the mute already.
  await Promise.all([page.waitForResponse(/\/api\/me$/), page.reload()])
  await restrict(token, userId, { kind: 'mute' })
  await write(page, 'muted')
  await page.locator('#rules').getByText('You can read, but not post.').waitFor()
  await call('DELETE', `/api/users/${userId}/restriction`, { token })
  for (const text of ['one', 'two', 'three', 'four']) {
    await page.clock.runFor(16_000)
    await post(token, text)
    await sees(page, text)
  }
  await page.locator('#rules').waitFor({ state: 'hidden' })
  await page.getByRole('button', { name: 'Send', disabled: false }).waitFor()
})

t.test('slow mode that is shortened lets a member write sooner; a long one says how long', async (t) => {
  const { call, enterAs, registerAs } = await startWithPages(t)
  const { token } = await registerAs('moderator')
  const { page } = await enterAs('member')
  const slowDown = (slowModeSeconds: number) =>
    call('PATCH', '/api/room', { token, body: { slowModeSeconds } })
  await slowDown(21_600)
  await page.locator('#rules').getByText('Slow mode: 6 hours').waitFor()
  await write(page, 'first')
  await page.locator('#countdown').getByText('You can post again in 6 hours.').waitFor()
  await page.reload()
  await sees(page, 'first')
  await write(page, 'second')
  await page.locator('#pending .state').getByText('You can post again in 6 hours.').waitFor()
  await page.locator('#countdown').getByText('You can post again in 6 hours.').waitFor()
  await slowDown(1)
  await shows(page, ['first', 'second'])
  await page.locator('#countdown').waitFor({ state: 'hidden' })
  await page.getByRole('button', { name: 'Send', disabled: false }).waitFor()
})

t.test(
  'whoever saves the settings changes only what they touched, and sees what others change',
  async (t) => {
    const { call, enterPanel, registerAs } = await startWithPages(t)
    const { token } = await registerAs('moderator')
    const { dialog, tab } = await enterPanel()
    await tab('Room').click()
    await dialog.getByLabel('Topic').fill('tea')
    await call('PATCH', '/api/room', {
      token,
      body: { topic: 'coffee', slowModeSeconds: 45, readOnly: true }
    })
    await dialog.getByRole('checkbox', { name: 'Read-only', checked: true }).waitFor()
    t.equal(await dialog.getByLabel('Slow mode').inputValue(), '45')
    t.equal(await dialog.getByLabel('Topic').inputValue(), 'tea', 'what is being typed stays')
    await call('PATCH', '/api/room', { token, body: { slowModeSeconds: 60 } })
    await dialog.getByRole('button', { name: 'Save' }).click()
    await dialog.getByText('Saved.').waitFor()
    t.match((await call('GET', '/api/room')).body, { topic: 'tea', slowModeSeconds: 60, readOnly: true })
  }
)

t.test('settings that are not known cannot be saved', async (t) => {
  const { call, enterAs, registerAs } = await startWithPages(t)
  const { token } = await registerAs('moderator')
  await call('PATCH', '/api/room', { token, body: { topic: 'coffee' } })
  const { page } = await enterAs('moderator')
  await page.route('**/api/room', (route) => route.abort())
  await page.reload()
  await page.getByRole('button', { name: 'Moderation' }).click()
  const dialog = page.getByRole('dialog').last()
  const room = dialog.getByRole('tab', { name: 'Room' })
  await room.click()
  await dialog.getByRole('alert').filter({ hasText: 'The server cannot be reached.' }).waitFor()
  t.equal(await dialog.getByLabel('Topic').count(), 0)
  await page.unroute('**/api/room')
  await room.click()
  t.equal(await dialog.getByLabel('Topic').inputValue(), 'coffee')
})

t.test('a tab shows its own list, whichever is loaded first', async (t) => {
  const { call, enterPanel, registerAs, restrict } = await startWithPages(t)
  const { token } = await registerAs('moderator')
  const { userId, nickname } = await registerAs('member')
  await restrict(token, userId, { kind: 'mute', reason: 'spam' })
  const { page, dialog, tab } = await enterPanel()
  let goOn = () => {}
  const gate = new Promise<void>((resolve) => (goOn = resolve))
  await page.route('**/api/moderation-log?*', async (route) => {
    await gate
    await route.continue()
  })
  const answered = page.waitForResponse('**/api/moderation-log?*')
  await tab('Log').click()
  await tab('Restrictions').click()
  await dialog.getByRole('button', { name: `Lift: ${nickname}` }).waitFor()
  goOn()
  await answered
  await drawn(page)
  t.ok(await dialog.getByRole('button', { name: `Lift: ${nickname}` }).isVisible())
  t.equal(await tab('Restrictions').getAttribute('aria-selected'), 'true')

  // The focus stays in the panel when the item is gone that it was in.
  const second = await registerAs('member')
  await restrict(token, second.userId, { kind: 'mute' })
  await tab('Restrictions').click()
  const lift = (name: string) => dialog.getByRole('button', { name: `Lift: ${name}` })
  await lift(second.nickname).focus()
  await page.keyboard.press('Enter')
  await lift(second.nickname).waitFor({ state: 'detached' })
  await page.keyboard.press('Tab')
  t.ok(
    await lift(nickname).evaluate((button) => button === document.activeElement),
    'it was in the next item'
  )
  await page.keyboard.press('Enter')
  await dialog.getByText('Nothing here.').waitFor()
  t.equal(await page.evaluate(() => document.activeElement!.id), 'moderation-panel')
  t.strictSame((await call('GET', '/api/restrictions', { token })).body, [])
})

t.test('a report leads to its message each time', async (t) => {
  const { call, enterAs, registerAs, post } = await startWithPages(t)
  const [author, reporter] = [await registerAs('member'), await registerAs('member')]
  const { id } = await post(author.token, 'buy my pills')
  for (let n = 1; n <= 60; n++) await post(author.token, `message ${n}`)
  await call('POST', `/api/messages/${id}/report`, { token: reporter.token, body: { reason: 'spam' } })
  const { page } = await enterAs('moderator')
  for (const time of ['first', 'second']) {
    await sees(page, 'message 60')
    await page.getByRole('button', { name: 'Moderation' }).click()
    await page.getByRole('dialog').getByRole('button', { name: 'Go to message' }).click()
    await message(page, 'buy my pills').waitFor()
    await page.waitForFunction(() => {
      const item = document.querySelector('#messages li')!.getBoundingClientRect()
      return item.bottom > 0 && document.querySelector('#scroller')!.scrollTop < 500
    })
    t.pass(`the ${time} time`)
    await page.getByRole('button', { name: 'Jump to latest' }).click()
  }
})

t.test('how long a mute lasts does not depend on the clock of the moderator', async (t) => {
  const { call, enterAs, registerAs, post } = await startWithPages(t)
  const { userId, token } = await registerAs('member')
  await post(token, 'buy my pills')
  const { page, ...moderator } = await enterAs('moderator')
  await page.addInitScript(() => {
    const { now } = Date
    Date.now = () => now() - 2 * 3_600_000
  })
  await page.reload()
  await sees(page, 'buy my pills')
  await page.getByRole('button', { name: 'Moderation' }).waitFor()
  await choose(message(page, 'buy my pills'), 'Mute…')
  const dialog = page.getByRole('dialog').last()
  await dialog.getByLabel('For how long?').selectOption('3600')
  await dialog.getByRole('button', { name: 'Mute' }).click()
  await dialog.waitFor({ state: 'detached' })
  const [restriction] = (await call('GET', '/api/restrictions', { token: moderator.token })).body
  t.equal(restriction.userId, userId)
  t.ok(Math.abs(Date.parse(restriction.until) - Date.now() - 3_600_000) < 60_000, restriction.until)
})

t.test('a name that is written right to left leaves the order of the log alone', async (t) => {
  const { client, enterPanel, registerAs, restrict } = await startWithPages(t)
  const [moderator, member] = [await registerAs('moderator'), await registerAs('member')]
  const rename = (nickname: string, userId: number) =>
    client.query('update chat_user set nickname = $1 where id = $2', [nickname, userId])
  await rename('משה', moderator.userId)
  await rename('דוד', member.userId)
  await restrict(moderator.token, member.userId, { kind: 'mute', reason: 'ספאם' })
  const { dialog, tab } = await enterPanel()
  await tab('Log').click()
  const sentence = dialog.locator('li span').filter({ hasText: 'muted' })
  await sentence.waitFor()
  const left = (word: string) =>
    sentence.evaluate((element, word) => {
      const text = element.firstChild!
      const range = new Range()
      range.setStart(text, text.textContent!.indexOf(word))
      range.setEnd(text, text.textContent!.indexOf(word) + word.length)
      return range.getBoundingClientRect().left
    }, word)
  const places = [await left('משה'), await left('muted'), await left('דוד')]
  t.strictSame(
    places,
    places.toSorted((a, b) => a - b),
    'who, what, whom'
  )
})

t.test('two clicks open the panels once, while they are loaded', async (t) => {
  const { enterAs } = await startWithPages(t)
  const { page } = await enterAs('moderator')
  for (const [name, id] of [
    ['Moderation', 'moderating'],
    ['Search', 'searching']
  ] as const) {
    await page.getByRole('button', { name, exact: true }).evaluate((button: HTMLElement) => {
      button.click()
      button.click()
    })
    await page.locator(`#${id}`).first().waitFor()
    await drawn(page)
    t.equal(await page.getByRole('dialog').count(), 1, name)
    await page.keyboard.press('Escape')
    await page.locator(`#${id}`).waitFor({ state: 'detached' })
  }
})

t.test('a moderator whose role could not be read at first can moderate once it can', async (t) => {
  const { url, registerAs } = await startModerated(t)
  const account = await registerAs('moderator')
  const page = await openChat(t, browser, 'about:blank')
  await logIn(page, account)
  const headers = { 'retry-after': '1' }
  const json = { error: 'redis is not available', code: 'redis_unavailable', requestId: 'x' }
  await page.route('**/api/me', (route) => route.fulfill({ status: 503, headers, json }), { times: 2 })
  await page.goto(url)
  await page.getByRole('button', { name: 'Moderation' }).waitFor()
})

t.test('after a dialog, the keyboard goes on where one writes if the message is gone', async (t) => {
  const { url, registerAs, call, post } = await startModerated(t)
  const account = await registerAs('moderator')
  const { token } = await registerAs('member')
  const page = await openChat(t, browser, 'about:blank')
  await logIn(page, account)
  await page.goto(url)
  for (const entry of ['Mute…', 'Delete']) {
    const { id } = await post(token, entry)
    await sees(page, entry)
    await openMenu(message(page, entry))
    await page.getByRole('menuitem', { name: entry, exact: true }).click()
    const dialog = page.getByRole('dialog')
    await dialog.waitFor()
    await call('DELETE', `/api/messages/${id}`, { token })
    await message(page, entry).waitFor({ state: 'detached' })
    await page.keyboard.press('Escape')
    await dialog.waitFor({ state: 'hidden' })
    await page.waitForFunction(() => document.activeElement?.id === 'writing')
  }
})
