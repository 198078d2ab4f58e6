import type { Page } from 'playwright-core'
import t from 'tap'
import {
  choose,
  message,
  newPerson,
  openMenu,
  PASSWORD,
  sees,
  shows,
  startBrowser,
  write
} from '../helpers/browser.ts'
import { ownUserIds } from '../helpers/database.ts'
import { startModerated, type Role } from '../helpers/people.ts'

const browser = await startBrowser(t)
t.jobs = 1

t.test('members report, and are told why they cannot write; moderators act on what they see', async (t) => {
  const { url, call, database, registerAs, post } = await startModerated(t)
  await ownUserIds(database)
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
  await dialog(alice.page).getByRole('button', { name: 'Report' }).click()
  await alice.page.getByText('Thank you.').waitFor()

  await open.click()
  const report = dialog(moderator.page).locator('.report')
  await report.filter({ hasText: 'buy my pills' }).filter({ hasText: 'Reason: spam' }).waitFor()
  await report.getByRole('button', { name: 'Mute…' }).click()
  await dialog(moderator.page).getByLabel('For how long?').selectOption('3600')
  await dialog(moderator.page).getByLabel('Reason').fill('advertising')
  await dialog(moderator.page).getByRole('button', { name: 'Mute' }).click()
  await report.getByRole('button', { name: 'Dismiss' }).click()
  await dialog(moderator.page).getByText('Nothing here.').waitFor()
  await tab('Restrictions')
  await dialog(moderator.page).getByText('Reason: advertising').waitFor()
  await tab('Log')
  await dialog(moderator.page).getByText(`${moderator.nickname} muted ${mallory.nickname} until`).waitFor()

  await write(mallory.page, 'more pills')
  await mallory.page.locator('#pending .state').getByText('Not sent. You are muted until').waitFor()
  await mallory.page.locator('#rules').getByText('You can read, but not post.').waitFor()
  t.ok(await mallory.page.getByRole('button', { name: 'Send' }).isDisabled())
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
  await alice.page.locator('#topic').getByText('No pills').waitFor()
  await alice.page.locator('#rules').getByText('Slow mode: 1 hour between messages.').waitFor()
  await write(alice.page, 'once an hour')
  await sees(alice.page, 'once an hour')
  await alice.page.locator('#countdown').getByText('You can post again in 60 minutes.').waitFor()
  await write(alice.page, 'at once')
  t.equal(await alice.page.inputValue('#text'), 'at once', 'what comes too soon is not sent')
  t.equal(await alice.page.locator('#pending li').count(), 0)

  await dialog(moderator.page).getByLabel('Slow mode').selectOption('0')
  await dialog(moderator.page).getByLabel('Read-only').check()
  await dialog(moderator.page).getByRole('button', { name: 'Save' }).click()
  await alice.page.locator('#rules').getByText('The room is read-only').waitFor()
  await closePanel()
  await write(moderator.page, 'moderators may')
  await sees(alice.page, 'moderators may')

  await post(mallory.token, 'refused')
  await choose(message(moderator.page, 'cheap!'), 'Ban…')
  await dialog(moderator.page).getByLabel('For how long?').selectOption('0')
  await dialog(moderator.page).getByLabel('Delete all of their messages').check()
  await dialog(moderator.page).getByRole('button', { name: 'Ban' }).click()
  await shows(alice.page, ['once an hour', 'moderators may'])
  const body = { nickname: mallory.nickname, password: PASSWORD }
  t.match(await call('POST', '/api/login', { body }), { status: 403, body: { code: 'banned' } })

  await choose(message(moderator.page, 'once an hour'), 'Delete all of their messages…')
  await dialog(moderator.page).getByRole('button', { name: 'Delete' }).click()
  await shows(alice.page, ['moderators may'])
})
