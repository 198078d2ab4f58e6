import { type Browser, type BrowserContext, type BrowserContextOptions, chromium, type Page } from 'playwright-core'
import type { Test } from 'tap'

const args = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync']

/** Starts Debian's Chromium. */
export async function startBrowser (t: Test): Promise<Browser> {
  const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args })
  t.teardown(() => browser.close())
  return browser
}

/** A browser of its own for one person; nothing on its pages may throw, or break the policy of the page. */
export async function newPerson (t: Test, browser: Browser, options: BrowserContextOptions = {}): Promise<BrowserContext> {
  const context = await browser.newContext({ viewport: { width: 1100, height: 760 }, locale: 'en-GB', ...options })
  context.setDefaultTimeout(15_000)
  context.on('weberror', (error) => { t.fail(`on the page: ${error.error().stack}`) })
  context.on('console', (message) => {
    // What an answer of 4xx or 5xx, or none, adds by itself, is no fault of the page.
    if (message.type() === 'error' && !message.text().startsWith('Failed to load resource')) t.fail(`on the page: ${message.text()}`)
  })
  t.teardown(() => context.close())
  return context
}

/** Opens the page of the service for a new person. */
export async function openChat (t: Test, browser: Browser, url: string, options: BrowserContextOptions = {}): Promise<Page> {
  const page = await (await newPerson(t, browser, options)).newPage()
  await page.goto(url)
  return page
}

export const PASSWORD = 'correct horse'

/** Comes in by the form of the page. */
export async function enter (page: Page, nickname: string, way: 'register' | 'login' = 'register'): Promise<void> {
  await page.fill('input[name=nickname]', nickname)
  await page.fill('input[name=password]', PASSWORD)
  await page.click(`button[value=${way}]`)
  await page.locator('#text').waitFor()
}

/** Writes a message and sends it. */
export async function write (page: Page, text: string): Promise<void> {
  await page.fill('#text', text)
  await page.press('#text', 'Enter')
}

/** The message with that text, once it is there. */
export const message = (page: Page, text: string) => page.locator('#messages li').filter({ has: page.getByText(text, { exact: true }) })

/** Resolves once the page shows the message. */
export const sees = (page: Page, text: string) => message(page, text).waitFor()

/** The texts on the page, in their order. */
export const texts = (page: Page) => page.locator('#messages .text').allTextContents()

/** Resolves once the texts on the page are these. */
export const shows = (page: Page, expected: string[]) => page.waitForFunction((expected) =>
  JSON.stringify([...document.querySelectorAll('#messages .text')].map(({ textContent }) => textContent)) === expected, JSON.stringify(expected))

/** Scrolls up, from wherever the view is, to the first message of the room. @returns all texts on the way, in their order */
export async function readToTheStart (page: Page): Promise<string[]> {
  const seen = new Map<number, string>()
  for (;;) {
    const { found, isStart } = await page.evaluate(() => {
      document.querySelector('#scroller')!.scrollTop = 0
      return {
        found: [...document.querySelectorAll<HTMLElement>('#messages li')].map((element): [number, string] => [Number(element.dataset['id']), element.querySelector('.text')!.textContent]),
        isStart: document.querySelector('#top')!.textContent === 'This is where the conversation begins.'
      }
    })
    for (const [id, text] of found) seen.set(id, text)
    if (isStart) return [...seen].sort(([a], [b]) => a - b).map(([, text]) => text)
    const first = found[0]?.[0] ?? 0
    await page.waitForFunction((first) => Number(document.querySelector<HTMLElement>('#messages li')?.dataset['id']) < first ||
      document.querySelector('#top')!.textContent === 'This is where the conversation begins.', first)
  }
}
