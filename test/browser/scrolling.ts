import { setTimeout as sleep } from 'node:timers/promises'
import type { Page } from 'playwright-core'
import t, { type Test } from 'tap'
import { startService } from '../helpers/app.ts'
import {
  below,
  drawn,
  enter,
  message,
  openChat,
  place,
  reachesTheEnd,
  sees,
  startBrowser
} from '../helpers/browser.ts'
import { connect } from '../helpers/database.ts'

// With the scrollbars that a headless browser hides, because one of them is dragged.
const browser = await startBrowser(t, { ignoreDefaultArgs: ['--hide-scrollbars'] })
t.jobs = 1

/** A room of 300 messages, and a page at the newest of them. */
async function openRoom(t: Test) {
  const { url, register, post, database } = await startService(t)
  const { userId, token } = await register()
  const client = await connect(t, database)
  await client.query(
    `insert into chat_message (user_id, text, created_at)
    select $1, 'message ' || n, now() - make_interval(mins => 300 - n) from generate_series(1, 300) n`,
    [userId]
  )
  const page = await openChat(t, browser, url, { hasTouch: true })
  await sees(page, 'message 300')
  await reachesTheEnd(page)
  return { url, page, client, userId, say: (text: string) => post(token, text) }
}

/** Where the view was at each scroll event while `act` ran and until the scrolling had come to rest. */
async function trace(page: Page, act: () => Promise<unknown>): Promise<number[]> {
  await page.evaluate(() => {
    const scroller = document.querySelector('#scroller')!
    const tops = [scroller.scrollTop]
    const controller = new AbortController()
    scroller.addEventListener('scroll', () => tops.push(scroller.scrollTop), { signal: controller.signal })
    Object.assign(window, { tops, stopTracing: () => controller.abort() })
  })
  await act()
  const tops = () => page.evaluate(() => (window as unknown as { tops: number[] }).tops)
  // At rest: half a second without a scroll event. A view that is thrown back has been thrown back by then.
  for (let count = 0, seen; seen !== count || count < 2;) {
    count = (await tops()).length
    await sleep(500)
    seen = (await tops()).length
  }
  await page.evaluate(() => (window as unknown as { stopTracing: () => void }).stopTracing())
  return tops()
}

/** Each way to scroll up a little, as a reader does it. */
const ways: Record<string, (page: Page) => Promise<void>> = {
  'one small notch of the wheel': async (page) => {
    await page.mouse.move(400, 300)
    await page.mouse.wheel(0, -30)
  },
  'a touchpad, pixel by pixel': async (page) => {
    await page.mouse.move(400, 300)
    for (let i = 0; i < 30; i++) await page.mouse.wheel(0, -1)
  },
  ArrowUp: async (page) => {
    await page.focus('#scroller')
    await page.keyboard.press('ArrowUp')
  },
  PageUp: async (page) => {
    await page.focus('#scroller')
    await page.keyboard.press('PageUp')
  },
  'a slow drag of the scrollbar': async (page) => {
    const { x, y, width, height } = (await page.locator('#scroller').boundingBox())!
    const [right, bottom] = [x + width - 5, y + height - 25]
    await page.mouse.move(right, bottom)
    await page.mouse.down()
    for (let i = 1; i <= 8; i++) {
      await page.mouse.move(right, bottom - i)
      await drawn(page)
    }
    await page.mouse.up()
  },
  'a finger that moves slowly': async (page) => {
    const devices = await page.context().newCDPSession(page)
    const touch = (type: 'touchStart' | 'touchMove' | 'touchEnd', y?: number) =>
      devices.send('Input.dispatchTouchEvent', { type, touchPoints: y === undefined ? [] : [{ x: 400, y }] })
    await touch('touchStart', 300)
    for (let i = 1; i <= 40; i++) {
      await touch('touchMove', 300 + i)
      await drawn(page)
    }
    await touch('touchEnd')
  }
}

t.test('who scrolls up from the newest message stays where they scrolled to', async (t) => {
  const { page } = await openRoom(t)
  for (const [way, scrollUp] of Object.entries(ways)) {
    const tops = await trace(page, () => scrollUp(page))
    t.ok((await below(page)) >= 5, `${way}: ${await below(page)} px above the end`)
    const isThrownBack = tops.some((top, i) => top > (tops[i - 1] ?? Infinity) + 1)
    t.notOk(isThrownBack, `${way}: and on the way there nothing throws the view back`)
    await page.focus('#scroller')
    await page.keyboard.press('End')
    await reachesTheEnd(page)
  }
})

t.test('who scrolls up while messages arrive is not dragged along', async (t) => {
  const { page, client, userId } = await openRoom(t)
  const flood = { count: 0, isOver: false }
  const insert =
    "insert into chat_message (user_id, text, created_at) values ($1, 'flood ' || $2::int, now())"
  const flooding = (async () => {
    while (!flood.isOver) {
      await client.query(insert, [userId, ++flood.count])
      await sleep(20)
    }
  })()
  for (const [way, scrollUp] of Object.entries(ways)) {
    // The thumb of a scrollbar stands for a part of the whole list, which a flood changes under the hand.
    if (way.includes('scrollbar')) continue
    await trace(page, () => scrollUp(page))
    await page
      .locator('#newest')
      .getByText(/new messages/)
      .waitFor()
    const first = await page.evaluate(() => {
      const edge = document.querySelector('#scroller')!.getBoundingClientRect().top
      const messages = [...document.querySelectorAll('#messages li')]
      const found = messages.find((element) => element.getBoundingClientRect().top >= edge)!
      return found.querySelector('.text')!.textContent
    })
    const before = await place(page, first)
    const news = await page.title()
    await page.waitForFunction((news) => document.title !== news, news)
    const isMoved = Math.abs((await place(page, first)) - before) >= 2
    t.notOk(isMoved, `${way}: ${first} stays in place while more arrives`)
    t.ok((await below(page)) > 40, `${way}: and the end moves away`)
    await page.locator('#newest').click()
    await reachesTheEnd(page)
    await page.locator('#newest').waitFor({ state: 'hidden' })
  }
  flood.isOver = true
  await flooding
})

t.test('who is at the newest message follows it, also after a few pixels up and down again', async (t) => {
  const { page, say } = await openRoom(t)
  const follows = async (text: string) => {
    await say(text)
    await sees(page, text)
    await reachesTheEnd(page)
    t.equal(await page.locator('#newest').isVisible(), false, text)
  }
  await follows('one')
  await page.mouse.move(400, 300)
  await page.mouse.wheel(0, -10)
  await page.locator('#newest').waitFor()
  await say('not followed')
  await page.getByRole('button', { name: '1 new message' }).waitFor()
  t.ok((await below(page)) > 10)
  await page.mouse.wheel(0, 1000)
  await reachesTheEnd(page)
  await follows('after a wheel')
  await page.mouse.wheel(0, -2000)
  await page.locator('#newest').waitFor()
  await page.focus('#scroller')
  await page.keyboard.press('End')
  await reachesTheEnd(page)
  await follows('after the End key')
})

t.test('what the page itself moves does not end the following', async (t) => {
  const { page, client, say } = await openRoom(t)
  await enter(page, 'alice')
  await reachesTheEnd(page)
  const follows = async (after: string) => {
    await say(after)
    await sees(page, after)
    await reachesTheEnd(page)
    t.equal(await page.locator('#newest').isVisible(), false, after)
  }
  await page.fill('#text', 'a\nb\nc\nd\ne\nf')
  await reachesTheEnd(page)
  await follows('while the composer is high')
  await page.fill('#text', '')
  await reachesTheEnd(page)
  await follows('once it is low again')
  const sizes = [
    [500, 760],
    [500, 400],
    [1100, 300],
    [1100, 900],
    [320, 500],
    [1100, 760]
  ] as const
  for (const [width, height] of sizes) {
    await page.setViewportSize({ width, height })
    await reachesTheEnd(page)
    await follows(`in a window of ${width} by ${height}`)
  }
  await client.query("delete from chat_message where text like 'in a window%' or text like 'message 29%'")
  await message(page, 'in a window of 320 by 500').waitFor({ state: 'detached' })
  await reachesTheEnd(page)
  await follows('after some were deleted')
  await page.fill('#text', 'something of my own')
  await page.click('#send')
  await sees(page, 'something of my own')
  await follows('after a message of my own')
  await page.selectOption('#language', 'ru')
  await reachesTheEnd(page)
  await follows('in another language')
})

t.test('what a reader looks at stays in place, whatever happens around it', async (t) => {
  const { page, client, say } = await openRoom(t)
  const stays = async (what: string, happens: () => Promise<unknown>) => {
    const before = await place(page, 'message 265')
    await happens()
    await drawn(page)
    const moved = Math.abs((await place(page, 'message 265')) - before)
    t.ok(moved < 2, `${what}: moved by ${moved} px`)
  }
  await message(page, 'message 265').evaluate((element) => element.scrollIntoView())
  await page.locator('#newest').waitFor()
  await stays('older messages are loaded', () => sees(page, 'message 210'))
  await stays('a message arrives', async () => {
    await say('news')
    await sees(page, 'news')
  })
  await stays('one above is deleted', async () => {
    await client.query("delete from chat_message where text = 'message 260'")
    await message(page, 'message 260').waitFor({ state: 'detached' })
  })
  await stays('one above is edited, and higher then', async () => {
    await client.query(
      "update chat_message set text = E'high\\n\\n\\n\\n\\nhigher' where text = 'message 261'"
    )
    await page.getByText('higher').waitFor()
  })
  await stays('those above need more lines, in a narrow window', async () => {
    await client.query("update chat_message set text = repeat('word ', 60) where text like 'message 25_'")
    await message(page, 'message 258').waitFor({ state: 'detached' })
    await page.setViewportSize({ width: 360, height: 760 })
  })
  await stays('and fewer again', () => page.setViewportSize({ width: 1100, height: 760 }))
  await stays('another language', () => page.selectOption('#language', 'ru'))

  // The very message that is at the edge goes, and those below it stay.
  await message(page, 'message 264').evaluate((element) => element.scrollIntoView())
  await drawn(page)
  await stays('the first visible one is deleted', async () => {
    await client.query("delete from chat_message where text = 'message 264'")
    await message(page, 'message 264').waitFor({ state: 'detached' })
  })
})

t.test('the page never sets scrollTop to what it is, which would end a smooth scroll', async (t) => {
  const { page, say, client } = await openRoom(t)
  await message(page, 'message 280').evaluate((element) => element.scrollIntoView())
  await page.locator('#newest').waitFor()
  await drawn(page)
  await page.evaluate(() => {
    const { get = () => undefined, set } = Object.getOwnPropertyDescriptor(Element.prototype, 'scrollTop')!
    const useless: number[] = []
    Object.assign(window, { useless })
    Object.defineProperty(Element.prototype, 'scrollTop', {
      get,
      set(value: number) {
        if (Math.abs(value - Number(get.call(this))) < 0.5) useless.push(value)
        set!.call(this, value)
      }
    })
  })
  for (const text of ['one', 'two']) {
    await say(text)
    await sees(page, text)
  }
  await client.query("update chat_message set text = repeat(E'line\\n', 60) where text = 'message 281'")
  await page.getByRole('button', { name: 'Show more' }).click()
  await page.getByRole('button', { name: 'Show less' }).click()
  await page.locator('#newest').click()
  await say('three')
  await sees(page, 'three')
  await reachesTheEnd(page)
  t.strictSame(await page.evaluate(() => (window as unknown as { useless: number[] }).useless), [])
})
