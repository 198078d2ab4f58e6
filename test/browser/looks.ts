import type { BrowserContextOptions, Page } from 'playwright-core'
import t from 'tap'
import { startService } from '../helpers/app.ts'
import {
  choose,
  enter,
  message,
  openChat,
  reachesTheEnd,
  sees,
  shows,
  startBrowser,
  violations,
  write
} from '../helpers/browser.ts'
import { connect } from '../helpers/database.ts'
import { startModerated } from '../helpers/people.ts'
import { waitUntil } from '../helpers/raw.ts'

// axe-core checks each state of the page. With SCREENSHOTS=<folder> it is also drawn, for people to look at;
// SCREENSHOTS=docs redraws the pictures of the documentation.
const { SCREENSHOTS: folder } = process.env
const DOCUMENTED = ['desktop', 'dark', 'phone', 'phone-dark', 'offline-light', 'refused-dark']

const browser = await startBrowser(t)
const { url, database, call } = await startService(t)
const client = await connect(t, database)
const people = ['Ada', 'Grace', 'נועה', 'Linus', 'Маша'] as const
for (const nickname of people) {
  await call('POST', '/api/register', { body: { nickname, password: 'correct horse' } })
}
/** One conversation, so many minutes ago. */
const talk: [(typeof people)[number], string, number][] = [
  ['Grace', 'Good morning! Is the release still planned for today?', 1500],
  ['Linus', 'Yes, after lunch. The change log is here: https://example.com/releases/2.0', 1499],
  ['Grace', 'Thanks, I will read it on the train.', 1490],
  [
    'Ada',
    'I measured the new writer this morning.\n' +
      'One commit serves many posts now, so under load it is about three times as fast.',
    64
  ],
  ['Ada', 'The numbers are in the README.', 63],
  ['Linus', 'Very nice 👏', 60],
  ['נועה', 'בוקר טוב לכולם! אני בודקת את זה עכשיו.', 41],
  ['Маша', 'А русский интерфейс уже есть?', 20],
  ['Ada', 'Да, переключатель вверху справа.', 19],
  ['Маша', '🎉', 18],
  ['Grace', 'All tests are green. Shall we?', 3]
]
const insert = `insert into chat_message (user_id, text, created_at)
  select id, $2, now() - make_interval(mins => $3) from chat_user where nickname = $1`
for (const [nickname, text, minutes] of talk) await client.query(insert, [nickname, text, minutes])
t.jobs = 1

const look = async (page: Page, name: string) => {
  await page.mouse.move(0, 0)
  t.strictSame(await violations(page), [], name)
  if (!folder || (folder === 'docs' && !DOCUMENTED.includes(name))) return
  await page.screenshot({ path: `${folder}/web-${name}.png`, caret: 'initial' })
}
const open = async (options: BrowserContextOptions = {}, nickname?: string) => {
  const page = await openChat(t, browser, url, { viewport: { width: 900, height: 640 }, ...options })
  await sees(page, talk.at(-1)![1])
  if (nickname) await enter(page, nickname, 'login')
  await reachesTheEnd(page)
  return page
}
const phone = { viewport: { width: 390, height: 760 }, isMobile: true, hasTouch: true }

/**
 * In each place that has a name in a quote, the hue at which its contrast is the lowest. The page runs it, so
 * it can use nothing from outside.
 */
function contrastOfNames() {
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true })!
  const paint = (colors: string[]) => {
    for (const color of colors) {
      canvas.fillStyle = color
      canvas.fillRect(0, 0, 1, 1)
    }
    // As WCAG 2.2 defines it: https://www.w3.org/TR/WCAG22/#dfn-relative-luminance
    const [red = 0, green = 0, blue = 0] = [...canvas.getImageData(0, 0, 1, 1).data].map((value) => {
      return value <= 10 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4
    })
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
  }
  const lowest: Record<string, { contrast: number; hue: number }> = {}
  for (const name of document.querySelectorAll<HTMLElement>('.whom')) {
    const quote = name.parentElement!
    if (!quote.checkVisibility()) continue
    const place = `${quote.closest('li')?.querySelector('.text')?.textContent ?? 'the reply'}`
    for (let hue = 0; hue < 360; hue++) {
      quote.style.setProperty('--hue', `${hue}`)
      const behind = []
      for (let element: HTMLElement | null = quote; element; element = element.parentElement) {
        behind.unshift(getComputedStyle(element).backgroundColor)
      }
      const [dark = 0, light = 0] = [paint(behind), paint([getComputedStyle(name).color])].sort(
        (a, b) => a - b
      )
      const contrast = (light + 0.05) / (dark + 0.05)
      if (contrast < (lowest[place]?.contrast ?? Infinity)) lowest[place] = { contrast, hue }
    }
  }
  return lowest
}

/** Whether nothing of an element is outside of the window. */
function isInSight(element: Element) {
  const { top, bottom } = element.getBoundingClientRect()
  return top >= 0 && bottom <= innerHeight
}

/** Turns the wheel beside the list once, towards a control, unless all of it is in sight already. */
async function wheelTo(page: Page, id: string): Promise<boolean> {
  const control = page.locator(`#${id}`)
  if (await control.evaluate(isInSight)) return true
  const header = await page.locator('header').evaluate((element) => element.getBoundingClientRect().bottom)
  await page.mouse.move(2, header > 8 ? 4 : page.viewportSize()!.height - 4)
  const isAbove = await control.evaluate((element) => element.getBoundingClientRect().top < 0)
  await page.mouse.wheel(0, isAbove ? -20 : 20)
  return false
}

t.test('logged out', async () => {
  await look(await open(), 'logged-out')
  await look(await open({ ...phone, colorScheme: 'dark' }), 'logged-out-phone')
})

t.test('in the room', async () => {
  const page = await open({}, 'Ada')
  await page.fill('#text', 'Yes, go ahead')
  await look(page, 'desktop')
  await choose(message(page, 'The numbers are in the README.'), 'Edit')
  await look(page, 'editing')
  await page.keyboard.press('Escape')
  await page.fill('#text', 'x'.repeat(2010))
  await look(page, 'too-long')
  await page.fill('#text', 'Thanks, @')
  await page.getByRole('listbox').waitFor()
  await look(page, 'names')
})

t.test('the menu of a message, and a reply', async () => {
  const looks = { 'menu-desktop': {}, 'menu-phone-dark': { ...phone, colorScheme: 'dark' } } as const
  for (const [name, options] of Object.entries(looks)) {
    const page = await open(options, 'Ada')
    const shall = message(page, 'All tests are green. Shall we?')
    await shall.locator('.text').click({ button: 'right' })
    await page.getByRole('menu').waitFor()
    await look(page, name)
    await page.getByRole('menuitem', { name: 'Reply' }).click()
    await page.fill('#text', 'Yes, go ahead')
    await look(page, name.replace('menu', 'reply'))
  }
})

t.test('what people write: quotes, code, mentions, links, and what is new', async (t) => {
  const { url, call, database } = await startService(t)
  const client = await connect(t, database)
  const tokens: Record<string, string> = {}
  for (const nickname of ['Ada', 'Grace', 'Linus']) {
    const body = { nickname, password: 'correct horse' }
    tokens[nickname] = (await call('POST', '/api/register', { body })).body.token
  }
  const say = async (nickname: string, text: string, replyTo?: number): Promise<number> => {
    const body = { text, ...(replyTo && { replyTo }) }
    return (await call('POST', '/api/messages', { token: tokens[nickname]!, body })).body.id
  }
  const looks = {
    light: {},
    dark: { colorScheme: 'dark' },
    phone,
    'phone-dark': { ...phone, colorScheme: 'dark' }
  } as const
  const question = await say('Ada', 'Does the page show code, and links with brackets?')
  const gone = await say('Linus', 'to be deleted')
  await say('Grace', 'It does. See https://en.wikipedia.org/wiki/Queue_(data_structure).', question)
  await say('Linus', 'Well.', gone)
  await call('DELETE', `/api/messages/${gone}`, { token: tokens['Linus']! })
  await client.query("update chat_message set created_at = now() - interval '1 day'")
  const pages: Record<string, Page> = {}
  for (const [name, options] of Object.entries(looks)) {
    const page = await openChat(t, browser, url, { viewport: { width: 900, height: 640 }, ...options })
    await sees(page, 'Well.')
    await enter(page, 'Ada', 'login')
    await page.waitForFunction(() => localStorage['chat.read'] !== undefined)
    await page.goto('about:blank')
    pages[name] = page
  }
  const code = 'npm ci\nnpm test -- --jobs=2'
  await say('Grace', `@Ada could you run this?\n\`\`\`sh\n${code}\n\`\`\`\n**Then** tell us *how* it went.`)
  const id = await say('Linus', 'With `--jobs=1` it is quieter.')
  await call('PATCH', `/api/messages/${id}`, {
    token: tokens['Linus']!,
    body: { text: 'With `--jobs=1` it is quieter, but slower.' }
  })
  for (const [name, page] of Object.entries(pages)) {
    await page.goto(url)
    await page.getByText('New messages').filter({ visible: true }).waitFor()
    await page.locator('#messages mark').waitFor()
    await reachesTheEnd(page)
    await look(page, `written-${name}`)
  }
})

t.test('dark, and on a phone', async () => {
  await look(await open({ colorScheme: 'dark' }, 'Ada'), 'dark')
  await look(await open(phone, 'Ada'), 'phone')
  await look(await open({ ...phone, colorScheme: 'dark', locale: 'ru-RU' }, 'Маша'), 'phone-dark')
})

t.test('the dialogs', async () => {
  for (const colorScheme of ['light', 'dark'] as const) {
    const page = await open({ colorScheme }, 'Ada')
    await page.click('#account')
    await page.locator('#sessions li').first().waitFor()
    await look(page, `account-${colorScheme}`)
    await page.keyboard.press('Escape')
    await choose(message(page, 'The numbers are in the README.'), 'Delete')
    await look(page, `delete-${colorScheme}`)
  }
})

t.test('errors', async () => {
  for (const colorScheme of ['light', 'dark'] as const) {
    const page = await open({ colorScheme }, 'Ada')
    await page.context().setOffline(true)
    await page.getByRole('status').filter({ hasText: 'You are offline' }).waitFor()
    await write(page, 'Yes, go ahead!')
    await page.locator('#pending .state').getByText('You are offline').waitFor()
    await look(page, `offline-${colorScheme}`)
    await page.context().setOffline(false)
    await page.locator('#pending li').waitFor({ state: 'detached' })
    await page.getByRole('status').filter({ hasText: 'Reconnected' }).waitFor()
    await look(page, `again-${colorScheme}`)
    await page.click('#logout')
    await page.fill('input[name=nickname]', 'Ada')
    await page.fill('input[name=password]', 'wrong')
    await page.keyboard.press('Enter')
    await page.getByRole('alert').getByText('Wrong nickname or password.').waitFor()
    await look(page, `refused-${colorScheme}`)
  }
})

t.test('tall messages', async (t) => {
  const { url, call, post } = await startService(t)
  const body = { nickname: 'Ada', password: 'correct horse' }
  const { token } = (await call('POST', '/api/register', { body })).body
  await post(token, Array.from({ length: 80 }, (_, i) => `${i + 1}. one of many lines`).join('\n'))
  const looks = { light: {}, dark: { colorScheme: 'dark' }, phone } as const
  for (const [name, options] of Object.entries(looks)) {
    const page = await openChat(t, browser, url, { viewport: { width: 900, height: 640 }, ...options })
    await page.getByRole('button', { name: 'Show more' }).waitFor()
    await look(page, `folded-${name}`)
    await page.getByRole('button', { name: 'Show more' }).click()
    await page.getByRole('button', { name: 'Show less' }).waitFor()
    await look(page, `unfolded-${name}`)
  }
})

t.test('the page works in a browser that stores nothing', async (t) => {
  for (const colorScheme of ['light', 'dark'] as const) {
    const page = await open({ colorScheme }, 'Ada')
    await page.evaluate(() => {
      Storage.prototype.setItem = () => {
        throw new DOMException('full', 'QuotaExceededError')
      }
    })
    await page.context().setOffline(true)
    await page.getByRole('status').filter({ hasText: 'You are offline' }).waitFor()
    await write(page, 'Yes, go ahead!')
    await page.getByRole('status').filter({ hasText: 'cannot save' }).waitFor()
    await look(page, `unsaved-${colorScheme}`)
    await page.getByRole('button', { name: 'Discard' }).click()
    await page.locator('#pending li').waitFor({ state: 'detached' })
    t.equal(await page.locator('#unsaved').isVisible(), false)
  }
})

t.test('the names in quotes can be read, whoever it is', async (t) => {
  for (const colorScheme of ['light', 'dark'] as const) {
    const { url, call } = await startService(t)
    const page = await openChat(t, browser, url, { colorScheme })
    await enter(page, colorScheme)
    const { token } = await page.evaluate(
      () => JSON.parse(localStorage['chat.session']!) as { token: string }
    )
    const body = { nickname: `other ${colorScheme}`, password: 'correct horse' }
    const other = (await call('POST', '/api/register', { body })).body.token
    const say = async (token: string, text: string, replyTo?: number): Promise<number> =>
      (await call('POST', '/api/messages', { token, body: { text, replyTo } })).body.id
    const id = await say(other, 'a question')
    await say(token, 'an answer of mine', id)
    await say(other, 'an answer of others', id)
    await say(other, `an answer of others to @${colorScheme}`, id)
    await message(page, 'an answer of mine').waitFor()
    await page.locator('#messages mark').waitFor()
    await choose(message(page, 'a question').first(), 'Reply')
    const lowest = await page.evaluate(contrastOfNames)
    t.equal(Object.keys(lowest).length, 4, 'in a bubble of mine, in two of others, and where I write')
    for (const [place, { contrast, hue }] of Object.entries(lowest)) {
      t.ok(contrast >= 4.5, `${place}, ${colorScheme}: ${contrast.toFixed(2)} at a hue of ${hue}`)
    }
  }
})

t.test('at 400 % zoom, every control can be scrolled into sight', async (t) => {
  const { url, registerAs, call } = await startModerated(t)
  const small = { width: 320, height: 256 } // of 1280 x 1024
  const page = await openChat(t, browser, url, { viewport: small })
  const reach = async (...ids: string[]) => {
    for (const id of ids) {
      await waitUntil(`#${id} is in sight`, () => wheelTo(page, id))
      t.pass(`#${id} can be clicked`)
    }
    t.ok((await page.locator('#scroller').boundingBox())!.height >= 64, 'and the list has some space as well')
  }
  await page.locator('#login').waitFor()
  await reach('nickname', 'password', 'register', 'login', 'language', 'search')
  const { nickname } = await registerAs('member')
  await page.fill('#nickname', nickname)
  await page.fill('#password', 'wrong')
  await reach('login')
  await page.click('#login')
  await page.getByRole('alert').filter({ visible: true }).waitFor()
  await waitUntil('the reason is in sight', () => page.locator('#notice').evaluate(isInSight))
  await reach('create', 'password', 'register', 'login', 'language')
  await page.fill('#password', 'correct horse')
  await page.keyboard.press('Enter')
  await page.locator('#text').waitFor()

  const { token } = await registerAs('moderator')
  await call('PATCH', '/api/room', { token, body: { slowModeSeconds: 300 } })
  await page.locator('#rules').waitFor()
  await write(page, 'one')
  await page.locator('#countdown').waitFor()
  await choose(message(page, 'one'), 'Reply')
  await page.fill('#text', '1\n2\n3\n4\n5\n6')
  await reach('cancel-reply', 'send', 'account', 'search')

  await page.setViewportSize({ width: 390, height: 500 })
  await page.fill('#text', '')
  const { scrolled, window } = await page.evaluate(() => {
    return { scrolled: document.documentElement.scrollHeight, window: innerHeight }
  })
  t.equal(scrolled, window, 'where there is space, the list alone is scrolled')
})

t.test('an empty room', async (t) => {
  const { url } = await startService(t)
  const page = await openChat(t, browser, url)
  await page.getByText('No messages yet.').waitFor()
  await look(page, 'empty')
  await shows(page, [])
})

t.test('the first load is small, and one round trip deep', async (t) => {
  const page = await openChat(t, browser, 'about:blank')
  await page.addInitScript(() => {
    const watch = () => {
      if (!document.querySelector('#messages li')) return requestAnimationFrame(watch)
      return Object.assign(window, { firstMessageAt: performance.now() })
    }
    watch()
  })
  // What Chrome received, headers included: the `transferSize` of the entries below only estimates those.
  let bytes = 0
  const devtools = await page.context().newCDPSession(page)
  await devtools.send('Network.enable')
  devtools.on('Network.loadingFinished', ({ encodedDataLength }) => {
    bytes += encodedDataLength
  })
  const load = async () => {
    bytes = 0
    await page.goto(url)
    await page.waitForFunction(() => 'firstMessageAt' in window)
    await page.locator('#online').waitFor() // It comes last.
    const measured = await page.evaluate(() => {
      // Both kinds are of that type, which the DOM's types do not know.
      const found = [
        ...performance.getEntriesByType('navigation'),
        ...performance.getEntriesByType('resource')
      ]
      const entries = found as PerformanceResourceTiming[]
      return {
        requests: entries.length,
        content: entries.reduce((total, { decodedBodySize }) => total + decodedBodySize, 0),
        firstMessage: (window as unknown as { firstMessageAt: number }).firstMessageAt,
        firstPaint: performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0,
        pages: entries.filter(({ name }) => name.endsWith('api/messages?limit=50')).length
      }
    })
    return { ...measured, bytes }
  }
  const first = await load()
  const second = await load()
  for (const [name, { requests, bytes, content, firstMessage, firstPaint }] of Object.entries({
    first,
    second
  })) {
    t.comment(
      `${name} load: ${requests} requests, ${bytes} bytes on the wire for ${content} of content, ` +
        `first paint after ${Math.round(firstPaint)} ms, first message after ${Math.round(firstMessage)} ms`
    )
  }
  t.equal(first.pages, 1, 'the messages are asked for once')
  t.ok(first.bytes < 90_000 && second.bytes < 30_000)
})
