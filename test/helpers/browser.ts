import axe from 'axe-core'
import {
  type Browser,
  type BrowserContext,
  type BrowserContextOptions,
  chromium,
  type LaunchOptions,
  type Locator,
  type Page
} from 'playwright-core'
import type { Test } from 'tap'

const args = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync'
]

/** Several browsers may start at a time, on a machine with few cores. */
export const START_MS = 120_000

/** Starts Debian's Chromium. */
export async function startBrowser(t: Test, options: LaunchOptions = {}): Promise<Browser> {
  const executablePath = '/usr/bin/chromium'
  const browser = await chromium.launch({ executablePath, args, timeout: START_MS, ...options })
  t.teardown(() => browser.close())
  return browser
}

/** A browser of its own for one person; nothing on its pages may throw, or break the policy of the page. */
export async function newPerson(
  t: Test,
  browser: Browser,
  options: BrowserContextOptions = {}
): Promise<BrowserContext> {
  const viewport = { width: 1100, height: 760 }
  const context = await browser.newContext({ viewport, locale: 'en-GB', ...options })
  context.setDefaultTimeout(30_000)
  // On Node 20, tsx wraps named functions in this, also in what is sent to the page.
  await context.addInitScript('globalThis.__name = (named) => named')
  context.on('weberror', (error) => {
    t.fail(`on the page: ${error.error().stack}`)
  })
  context.on('console', (message) => {
    // What an answer of 4xx or 5xx, or none, adds by itself, is no fault of the page.
    const isAnswer = message.text().startsWith('Failed to load resource')
    if (message.type() === 'error' && !isAnswer) t.fail(`on the page: ${message.text()}`)
  })
  t.teardown(() => context.close())
  return context
}

/** Opens the page of the service for a new person. */
export async function openChat(
  t: Test,
  browser: Browser,
  url: string,
  options: BrowserContextOptions = {}
): Promise<Page> {
  const page = await (await newPerson(t, browser, options)).newPage()
  await page.goto(url)
  return page
}

/** Makes a page find an account that is logged in, once it is opened. */
export async function logIn(page: Page, account: object): Promise<void> {
  await page.addInitScript((account) => {
    localStorage['chat.session'] = JSON.stringify(account)
  }, account)
}

export const PASSWORD = 'correct horse'

/** Comes in by the form of the page. */
export async function enter(
  page: Page,
  nickname: string,
  way: 'register' | 'login' = 'register'
): Promise<void> {
  await page.fill('input[name=nickname]', nickname)
  await page.fill('input[name=password]', PASSWORD)
  await page.click(`button[value=${way}]`)
  await page.locator('#text').waitFor()
}

/** Writes a message and sends it. */
export async function write(page: Page, text: string): Promise<void> {
  await page.fill('#text', text)
  await page.press('#text', 'Enter')
}

/** The message with that text, once it is there. */
export const message = (page: Page, text: string) => {
  return page.locator('#messages li').filter({ has: page.getByText(text, { exact: true }) })
}

/** Opens the menu of a message. */
export async function openMenu(item: Locator): Promise<void> {
  await item.hover()
  await item.getByRole('button', { name: 'Message actions' }).click()
}

/** Chooses an entry in the menu of a message. */
export async function choose(item: Locator, entry: string): Promise<void> {
  await openMenu(item)
  await item.page().getByRole('menuitem', { name: entry }).click()
}

/** Resolves once the page shows the message. */
export const sees = (page: Page, text: string) => message(page, text).waitFor()

/** The texts on the page, in their order. */
export const texts = (page: Page) => page.locator('#messages .text').allTextContents()

/** Resolves once the texts on the page are these. */
export const shows = (page: Page, expected: string[]) =>
  page.waitForFunction((expected) => {
    const texts = [...document.querySelectorAll('#messages .text')].map(({ textContent }) => textContent)
    return JSON.stringify(texts) === expected
  }, JSON.stringify(expected))

/**
 * Scrolls up, from wherever the view is, to the first message of the room.
 * @returns all texts on the way, in their order
 */
export async function readToTheStart(page: Page): Promise<string[]> {
  const seen = new Map<number, string>()
  for (;;) {
    const { found, isStart } = await page.evaluate(() => {
      document.querySelector('#scroller')!.scrollTop = 0
      const messages = [...document.querySelectorAll<HTMLElement>('#messages li')]
      return {
        found: messages.map((element): [number, string] => {
          return [Number(element.dataset['id']), element.querySelector('.text')!.textContent]
        }),
        isStart: document.querySelector('#top')!.textContent === 'This is the beginning of the conversation.'
      }
    })
    for (const [id, text] of found) seen.set(id, text)
    if (isStart) return [...seen].sort(([a], [b]) => a - b).map(([, text]) => text)
    const first = found[0]?.[0] ?? 0
    await page.waitForFunction((first) => {
      const id = Number(document.querySelector<HTMLElement>('#messages li')?.dataset['id'])
      const top = document.querySelector('#top')!.textContent
      return id < first || top === 'This is the beginning of the conversation.'
    }, first)
  }
}

/** How many pixels of the list are below the view: 0 at the newest message. */
export const below = (page: Page) =>
  page.locator('#scroller').evaluate((scroller) => {
    return Math.round(scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight)
  })

/** Resolves once the view is at the newest message. */
export const reachesTheEnd = (page: Page) =>
  page.waitForFunction(() => {
    const { scrollHeight, scrollTop, clientHeight } = document.querySelector('#scroller')!
    return scrollHeight - scrollTop - clientHeight < 2
  })

/** How far below the upper edge of the list a message begins, in pixels. */
export const place = (page: Page, text: string) =>
  message(page, text).evaluate(
    (element) =>
      element.getBoundingClientRect().top - document.querySelector('#scroller')!.getBoundingClientRect().top
  )

/** Two frames later, everything that was to be drawn is drawn. */
export const drawn = (page: Page) =>
  page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve))))

/** Posts of the page do not reach the service, until the route is taken back. */
export const refusePosts = (page: Page) =>
  page.route('**/api/messages', (route) => {
    return route.request().method() === 'POST' ? route.abort() : route.continue()
  })

/** The narrowest page: a small phone, or a window of 1280 pixels at 400 % zoom. */
const NARROW_PX = 320

/** Where a person looks at the pictures of the page. */
const { SCREENSHOTS: folder } = process.env

/**
 * Holds the page as it is now to axe-core: in light colours, and in dark ones where it is only 320 pixels
 * wide and nothing may be beyond the edge.
 *
 * @param isResizable false where another size would close what is open
 */
export async function audit(t: Test, page: Page, name: string, { isResizable = true } = {}): Promise<void> {
  const before = page.viewportSize()!
  await page.mouse.move(0, 0)
  for (const colorScheme of ['light', 'dark'] as const) {
    const width = isResizable && colorScheme === 'dark' ? NARROW_PX : before.width
    const state = `${name}, ${colorScheme}, ${width} px`
    await page.emulateMedia({ colorScheme })
    if (width !== before.width) await page.setViewportSize({ ...before, width })
    t.strictSame(await violations(page), [], state)
    if (width === NARROW_PX) t.strictSame(await beyondTheEdge(page), [], `${state}: all of it is in sight`)
    if (folder && folder !== 'docs') {
      await page.screenshot({ path: `${folder}/${state.replace(/\W+/g, '-')}.png`, caret: 'initial' })
    }
  }
  await page.emulateMedia({ colorScheme: null })
  if (isResizable) await page.setViewportSize(before)
}

/** What axe-core finds on the page, once it has stopped moving. */
export async function violations(page: Page) {
  await page.waitForFunction(() =>
    document.getAnimations().every(({ playState }) => playState === 'finished')
  )
  if (!(await page.evaluate(() => 'axe' in window))) await page.evaluate(axe.source)
  const options = { rules: { 'target-size': { enabled: true } } }
  // As axe.run() declares it.
  const result = (await page.evaluate(`axe.run(${JSON.stringify(options)})`)) as axe.AxeResults
  return result.violations.map(({ id, nodes }) => {
    return { id, nodes: nodes.map(({ html, failureSummary }) => ({ html, failureSummary })) }
  })
}

/** The controls and texts that are wider than the window, or begin or end outside of it. */
const beyondTheEdge = (page: Page) =>
  page.evaluate(() => {
    const isBeyond = (element: Element) => {
      const { left, right, width } = element.getBoundingClientRect()
      return width > 1 && (left < -1 || right > innerWidth + 1)
    }
    const shown = [...document.querySelectorAll('button, input, select, textarea, a, p, h1, h2, h3, label')]
    return shown
      .filter((element) => element.checkVisibility() && isBeyond(element))
      .map(({ outerHTML }) => outerHTML)
  })
