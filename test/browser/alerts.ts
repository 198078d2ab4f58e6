import t from 'tap'
import { startService } from '../helpers/app.ts'
import { enter, newPerson, sees, startBrowser } from '../helpers/browser.ts'

const browser = await startBrowser(t)
t.jobs = 1

declare global {
  interface Window {
    isAway: boolean
    shown: [title: string, text: string | undefined][]
  }
}

t.test('whoever wants it is told of mentions, or of all messages, while they are away', async (t) => {
  const { url, register, post } = await startService(t)
  const bob = await register()
  const page = await (await newPerson(t, browser)).newPage()
  // A page of a browser without a screen always has the focus, and shows no notifications.
  await page.addInitScript({
    content: `
      window.isAway = false
      window.shown = []
      document.hasFocus = () => !window.isAway
      Object.defineProperty(document, 'hidden', { get: () => window.isAway })
      window.Notification = class Notification {
        static permission = localStorage.getItem('permission') ?? 'default'
        static async requestPermission() {
          localStorage.setItem('permission', 'granted')
          return (Notification.permission = 'granted')
        }
        constructor(title, { body }) {
          window.shown.push([title, body])
        }
      }`
  })
  await page.goto(url)
  await enter(page, 'alice')
  const choose = async (label: string) => {
    await page.click('#account')
    await page.getByLabel('Notifications while you are away').selectOption(label)
    await page.getByRole('button', { name: 'Close' }).click()
  }
  const away = async (isAway: boolean) => {
    await page.evaluate((isAway) => {
      window.isAway = isAway
      document.dispatchEvent(new Event('visibilitychange'))
    }, isAway)
  }
  const says = async (text: string) => {
    await post(bob.token, text)
    await sees(page, text)
  }
  const shown = () => page.evaluate(() => window.shown)

  await away(true)
  await says('@alice, before she asked for it')
  t.strictSame(await shown(), [])
  await away(false)
  await choose('When I am mentioned')
  await says('@alice, while she looks')
  await away(true)
  await says('nothing for her')
  await says('are you there, @Alice?')
  t.strictSame(await shown(), [[bob.nickname, 'are you there, @Alice?']])
  await page.waitForFunction(() => document.title === '(2) Chat')
  t.match(await page.locator('link[rel=icon]').getAttribute('href'), /unread\.svg$/)

  await away(false)
  await page.waitForFunction(() => document.title === 'Chat')
  t.match(await page.locator('link[rel=icon]').getAttribute('href'), /icon\.svg$/)
  await choose('For all messages')
  await page.reload()
  await page.locator('#text').waitFor()
  // One tab tells: the one that holds this lock, which the page before the reload had.
  await page.waitForFunction(async () => (await navigator.locks.query()).held?.length === 1)
  await away(true)
  await says('for everybody')
  t.strictSame(await shown(), [[bob.nickname, 'for everybody']], 'the choice is kept')
})
