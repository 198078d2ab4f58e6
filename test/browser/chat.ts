import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { startService } from '../helpers/app.ts'
import {
  choose,
  drawn,
  enter,
  message,
  newPerson,
  openChat,
  PASSWORD,
  readToTheStart,
  sees,
  shows,
  startBrowser,
  texts,
  write
} from '../helpers/browser.ts'
import { connect } from '../helpers/database.ts'
import { waitUntil } from '../helpers/raw.ts'

const browser = await startBrowser(t)
t.jobs = 1

t.test('two people chat: each sees immediately what the other posts, edits and deletes', async (t) => {
  const { url } = await startService(t)
  const [alice, bob] = [await openChat(t, browser, url), await openChat(t, browser, url)]
  await enter(alice, 'alice')
  await enter(bob, 'bob')
  await write(alice, 'hello, bob')
  await sees(bob, 'hello, bob')
  t.equal(await message(bob, 'hello, bob').locator('.author').textContent(), 'alice')
  await write(bob, 'hello, alice')
  await sees(alice, 'hello, alice')
  await choose(message(alice, 'hello, bob'), 'Edit')
  t.equal(await alice.inputValue('#text'), 'hello, bob')
  await write(alice, 'good morning, bob')
  await shows(bob, ['good morning, bob', 'hello, alice'])
  await choose(message(alice, 'good morning, bob'), 'Delete')
  await alice.getByRole('dialog').getByRole('button', { name: 'Delete' }).click()
  await shows(bob, ['hello, alice'])
  await shows(alice, ['hello, alice'])
  t.equal(await alice.locator('#pending li').count(), 0)
})

t.test(
  'a reload keeps who is logged in, what was half written, and the newest messages; tabs log out together',
  async (t) => {
    const { url, register, post } = await startService(t)
    const { token } = await register()
    for (const text of ['one', 'two', 'three']) await post(token, text)
    const person = await newPerson(t, browser)
    const [first, second] = [await person.newPage(), await person.newPage()]
    await first.goto(url)
    await shows(first, ['one', 'two', 'three'])
    await enter(first, 'alice')
    await first.fill('#text', 'a sentence that is not')
    await first.reload()
    await shows(first, ['one', 'two', 'three'])
    t.equal(await first.inputValue('#text'), 'a sentence that is not')
    t.equal(await first.locator('#me').textContent(), 'alice')
    await second.goto(url)
    await second.locator('#text').waitFor()
    await first.getByRole('button', { name: 'Log out' }).click()
    await second.locator('input[name=nickname]').waitFor()
    t.equal(await second.locator('#composer').isVisible(), false)
    await second.reload()
    await second.locator('input[name=nickname]').waitFor()
  }
)

t.test('whatever the service refuses, the page says why in the language of the reader', async (t) => {
  const { url, call } = await startService(t)
  await call('POST', '/api/register', { body: { nickname: 'alice', password: PASSWORD } })
  const page = await openChat(t, browser, url)
  const tries = async (nickname: string, password: string, way: string, sentence: string) => {
    await page.fill('input[name=nickname]', nickname)
    await page.fill('input[name=password]', password)
    await page.click(`button[value=${way}]`)
    await page.getByRole('alert').filter({ hasText: sentence }).waitFor()
  }
  await tries('alice', 'wrong', 'login', 'Wrong nickname or password.')
  await tries('alice', PASSWORD, 'register', 'This nickname is already taken.')
  await tries('bob', 'short', 'register', 'The password is too short: use at least 8 characters.')
  await tries('bob', 'password1', 'register', 'This password is too common.')
  await page.selectOption('#language', 'ru')
  await tries('alice', 'wrong', 'login', 'Неверное имя или пароль.')
  await page.route('**/api/login', (route) =>
    route.fulfill({ status: 418, json: { error: 'I am a teapot', code: 'teapot', requestId: 'x' } })
  )
  await tries('alice', PASSWORD, 'login', 'I am a teapot.')
  await page.unroute('**/api/login')
  await page.selectOption('#language', 'en')
  await enter(page, 'alice', 'login')
  t.equal(await page.getByRole('alert').filter({ visible: true }).count(), 0)

  await page.fill('#text', '👍'.repeat(1999))
  t.equal(
    await page.locator('#count').textContent(),
    '1 character left',
    'characters are counted as the service does'
  )
  await page.fill('#text', 'x'.repeat(2001))
  t.equal(await page.locator('#count').textContent(), '1 character too many')
  t.equal(await page.locator('#count').getAttribute('aria-live'), 'off', 'a screen reader does not hear each')
  await page.locator('#count-said', { hasText: '1 character too many' }).waitFor({ state: 'attached' })
  await page.press('#text', 'Enter')
  t.equal((await page.inputValue('#text')).length, 2001, 'and it is still there to be shortened')
})

t.test(
  'a session that was ended elsewhere asks to log in again, and nothing that was written is lost',
  async (t) => {
    const { url, call } = await startService(t)
    const page = await openChat(t, browser, url)
    await enter(page, 'alice')
    const {
      body: { token }
    } = await call('POST', '/api/login', { body: { nickname: 'alice', password: PASSWORD } })
    await call('DELETE', '/api/sessions', { token })
    await write(page, 'written in vain?')
    await page.getByRole('alert').filter({ hasText: 'Your session has expired.' }).waitFor()
    await page.reload()
    await enter(page, 'alice', 'login')
    await sees(page, 'written in vain?')
    t.strictSame(await texts(page), ['written in vain?'])
  }
)

t.test('sessions are listed and ended; the password is changed', async (t) => {
  const { url, call } = await startService(t)
  const page = await openChat(t, browser, url)
  await enter(page, 'alice')
  const elsewhere = await openChat(t, browser, url)
  await enter(elsewhere, 'alice', 'login')
  const third = (await call('POST', '/api/login', { body: { nickname: 'alice', password: PASSWORD } })).body
    .token
  await page.click('#account')
  const dialog = page.getByRole('dialog')
  await dialog.locator('#sessions li:nth-child(3)').waitFor()
  t.equal(await dialog.locator('#sessions').getByText('this device').count(), 1)
  await dialog.locator('#sessions').getByRole('button', { name: 'End' }).first().click()
  await dialog.locator('#sessions li:nth-child(3)').waitFor({ state: 'detached' })

  const change = async (current: string, next: string, sentence: string) => {
    await dialog.getByLabel('Current password').fill(current)
    await dialog.getByLabel('New password').fill(next)
    await dialog.getByRole('button', { name: 'Change password' }).click()
    await dialog.getByRole('alert').filter({ hasText: sentence }).waitFor()
  }
  await change('wrong', 'battery staple', 'Wrong password.')
  const color = () => dialog.getByRole('alert').evaluate((alert) => getComputedStyle(alert).backgroundColor)
  const colorOfFailure = await color()
  await change(PASSWORD, 'battery staple', 'Password changed')
  t.not(await color(), colorOfFailure, 'good news does not look like a failure')
  t.equal(await dialog.locator('#sessions li').count(), 1)
  t.equal((await call('GET', '/api/sessions', { token: third })).status, 401)
  t.equal(
    (await call('POST', '/api/login', { body: { nickname: 'alice', password: 'battery staple' } })).status,
    200
  )
  await dialog.getByRole('button', { name: 'Close' }).click()
  await write(page, 'still here')
  await sees(page, 'still here')
  await write(elsewhere, 'and I am not')
  await elsewhere.getByRole('alert').filter({ hasText: 'Your session has expired.' }).waitFor()
})

t.test(
  'a post whose answer was lost is sent again and is there once; one that waits outlives the page',
  async (t) => {
    const { url, database } = await startService(t)
    const client = await connect(t, database)
    const page = await openChat(t, browser, url)
    await enter(page, 'alice')
    const keys: (string | undefined)[] = []
    let lost = 2
    await page.route(
      '**/api/messages',
      async (route) => {
        keys.push(route.request().headers()['idempotency-key'])
        if (--lost < 0) return route.continue()
        await route.fetch() // the service has it, and the page does not know
        await route.abort()
      },
      { times: 3 }
    )
    await write(page, 'only once')
    await page.waitForFunction(
      () => document.querySelectorAll('#messages li').length === 1 && !document.querySelector('#pending li')
    )
    await waitUntil('it has been sent three times', () => keys.length >= 3)
    await page.waitForFunction(() => Object.keys(localStorage).every((key) => !key.startsWith('chat.outbox')))
    t.equal(new Set(keys).size, 1)
    t.strictSame((await client.query('select text from chat_message')).rows, [{ text: 'only once' }])

    await page.route('**/api/messages', (route) =>
      route.request().method() === 'POST' ? route.abort() : route.continue()
    )
    await write(page, 'first')
    await write(page, 'second')
    await page.locator('#pending').getByText('The server cannot be reached').first().waitFor()
    await page.getByRole('button', { name: 'Discard' }).first().waitFor()
    await page.unroute('**/api/messages')
    await page.reload()
    await shows(page, ['only once', 'first', 'second'])
    t.equal(await page.locator('#pending li').count(), 0)
    t.equal((await client.query('select from chat_message')).rowCount, 3)
  }
)

t.test(
  'a text is a text, whatever it looks like, and only an address of the web becomes a link',
  async (t) => {
    const { url, call, database } = await startService(t)
    const client = await connect(t, database)
    const attacks = [
      '<img src=x onerror="window.hit=1">',
      '<script>window.hit=1</script>',
      '"><svg onload=window.hit=1>',
      '<a href="javascript:window.hit=1">x</a>',
      'javascript:window.hit=1',
      'data:text/html,<script>window.hit=1</script>',
      '{{constructor.constructor("window.hit=1")()}}',
      '&lt;b&gt;',
      '</template><b>b</b>'
    ]
    const {
      body: { token }
    } = await call('POST', '/api/register', {
      body: { nickname: '<b onclick=window.hit=1>eve</b>', password: PASSWORD }
    })
    for (const text of attacks) await call('POST', '/api/messages', { token, body: { text } })
    await client.query(
      "insert into chat_message (user_id, text, created_at) select id, 'https://example.com/\"onmouseover=window.hit=1//<b>?q=1).', now() from chat_user"
    )
    await call('POST', '/api/messages', {
      token,
      body: { text: 'see https://example.com/a?b=1&c=(2), or HTTP://EXAMPLE.COM.' }
    })
    const page = await openChat(t, browser, url)
    await sees(page, attacks.at(-1)!)
    t.strictSame((await texts(page)).slice(0, attacks.length), attacks)
    t.equal(await page.locator('#messages .author').first().textContent(), '<b onclick=window.hit=1>eve</b>')
    t.equal(await page.locator('#messages').locator('img, script, svg, b, template').count(), 0)
    for (const link of await page.locator('#messages .text a').all()) await link.dispatchEvent('mouseover')
    t.strictSame(
      await page
        .locator('#messages .text a')
        .evaluateAll((links) =>
          links.map((link) => [
            (link as HTMLAnchorElement).href,
            (link as HTMLAnchorElement).rel,
            (link as HTMLAnchorElement).target
          ])
        ),
      ['https://example.com/', 'https://example.com/a?b=1&c=(2)', 'http://example.com/'].map((href) => [
        href,
        'noopener noreferrer nofollow',
        '_blank'
      ])
    )
    t.equal(await page.evaluate(() => (window as { hit?: number }).hit), undefined)
  }
)

t.test('the keyboard is enough', async (t) => {
  const { url } = await startService(t)
  const page = await openChat(t, browser, url)
  const focused = () =>
    page.evaluate(
      () =>
        document.activeElement?.id ||
        document.activeElement?.getAttribute('name') ||
        document.activeElement?.className
    )
  const tabTo = async (goal: string, key = 'Tab') => {
    for (let i = 0; i < 20 && (await focused()) !== goal; i++) await page.keyboard.press(key)
    t.equal(await focused(), goal)
  }
  await page.keyboard.press('Tab')
  t.equal(await focused(), 'skip')
  await page.keyboard.press('Enter')
  await tabTo('nickname')
  await page.keyboard.type('alice')
  await page.keyboard.press('Tab')
  await page.keyboard.type(PASSWORD)
  await tabTo('register')
  await page.keyboard.press('Enter')
  await page.waitForFunction(() => document.activeElement?.id === 'text')
  await page.keyboard.type('first')
  await page.keyboard.press('Shift+Enter')
  await page.keyboard.type('second line')
  await page.keyboard.press('Enter')
  await sees(page, 'first\nsecond line')
  await page.keyboard.press('ArrowUp')
  await page.getByText('Editing message').waitFor()
  await page.keyboard.press('Escape')
  t.equal(await page.inputValue('#text'), '')
  await page.keyboard.press('ArrowUp')
  await page.keyboard.press('ControlOrMeta+A')
  await page.keyboard.type('changed')
  await page.keyboard.press('Enter')
  await sees(page, 'changed')
  const remove = async () => {
    await tabTo('more', 'Shift+Tab')
    await page.keyboard.press('Enter')
    await page.keyboard.press('ArrowUp')
    t.equal(await page.evaluate(() => document.activeElement!.textContent), 'Delete')
    await page.keyboard.press('Enter')
    await page.getByRole('dialog').waitFor()
  }
  await remove()
  await page.keyboard.press('Escape')
  t.equal(await focused(), 'more', 'whoever does not delete it is at the message again')
  await sees(page, 'changed')
  await remove()
  await page.keyboard.press('Tab')
  await page.keyboard.press('Enter')
  await shows(page, [])
  await tabTo('account', 'Shift+Tab')
  await page.keyboard.press('Enter')
  await page.getByRole('dialog').waitFor()
  await page.keyboard.press('Escape')
  t.equal(await focused(), 'account', 'and the focus comes back')
  await page.keyboard.press('Tab')
  await page.keyboard.press('Enter')
  await page.waitForFunction(() => document.activeElement?.getAttribute('name') === 'nickname')
})

t.test('an Enter that belongs to an input method sends nothing', async (t) => {
  const { url } = await startService(t)
  const page = await openChat(t, browser, url)
  await enter(page, 'alice')
  await page.focus('#text')
  const ime = await page.context().newCDPSession(page)
  await ime.send('Input.imeSetComposition', { text: 'にほん', selectionStart: 3, selectionEnd: 3 })
  await ime.send('Input.dispatchKeyEvent', {
    type: 'keyDown',
    key: 'Enter',
    code: 'Enter',
    windowsVirtualKeyCode: 229
  })
  t.equal(await page.inputValue('#text'), 'にほん')
  // Safari ends the composition before it tells of the key.
  await page.locator('#text').evaluate((field) => {
    field.dispatchEvent(
      new KeyboardEvent('keydown', { key: 'Enter', keyCode: 229, bubbles: true, cancelable: true })
    )
  })
  t.equal(await page.inputValue('#text'), 'にほん')
  await ime.send('Input.insertText', { text: '日本' })
  await page.press('#text', 'Enter')
  await sees(page, '日本')
  t.strictSame(await texts(page), ['日本'])
})

t.test(
  'the field for a message is as high as its text, in browsers that do not do that by themselves',
  async (t) => {
    const { url } = await startService(t)
    const page = await (await newPerson(t, browser)).newPage()
    await page.addInitScript(() => {
      const supports = CSS.supports.bind(CSS)
      CSS.supports = (property: string, value?: string) => {
        if (property === 'field-sizing') return false
        return value === undefined ? supports(property) : supports(property, value)
      }
      document.addEventListener('DOMContentLoaded', () => {
        document.getElementById('text')?.style.setProperty('field-sizing', 'fixed')
      })
    })
    await page.goto(url)
    await enter(page, 'alice')
    const height = () => page.locator('#text').evaluate((field) => field.clientHeight)
    const one = await height()
    await page.fill('#text', 'one\ntwo\nthree\nfour')
    const four = await height()
    t.ok(four > 2.5 * one, `four lines are ${four} px high, one is ${one}`)
    await page.press('#text', 'Enter')
    await sees(page, 'one\ntwo\nthree\nfour')
    t.equal(await height(), one, 'and low again once it is sent')
  }
)

t.test('without JavaScript, or in a browser that is too old, the page says what it needs', async (t) => {
  const { url } = await startService(t)
  const plain = await (await newPerson(t, browser, { javaScriptEnabled: false })).newPage()
  await plain.goto(url)
  await plain.getByText('your browser is too old for this page, or JavaScript is off').waitFor()

  const old = await (await newPerson(t, browser)).newPage()
  // To a browser that cannot read the script, it is as if there were none.
  await old.route('**/web/main.js', (route) => route.fulfill({ contentType: 'text/javascript', body: '' }))
  await old.goto(url)
  await old.getByText('your browser is too old for this page').waitFor()
})

t.test('English and Russian, right to left, emoji, and the hours as the reader writes them', async (t) => {
  const { url, register, post } = await startService(t)
  const { token } = await register()
  for (const text of ['שלום עולם', 'مرحبا', '👩‍👩‍👧‍👦', 'plain']) await post(token, text)
  const page = await openChat(t, browser, url, { locale: 'ru-RU', timezoneId: 'Asia/Tokyo' })
  await sees(page, 'plain')
  await page.getByRole('button', { name: 'Войти' }).waitFor()
  t.equal(await page.getAttribute('html', 'lang'), 'ru')
  t.equal(await page.locator('.day:visible').textContent(), 'Сегодня')
  const direction = (text: string) =>
    message(page, text)
      .locator('.text')
      .evaluate((element) => getComputedStyle(element).direction)
  t.strictSame(
    [await direction('שלום עולם'), await direction('مرحبا'), await direction('plain')],
    ['rtl', 'rtl', 'ltr']
  )
  t.ok(
    await message(page, '👩‍👩‍👧‍👦').locator('.text.emoji').count(),
    'one emoji, however it is made, is shown large'
  )
  await enter(page, 'Маша')
  t.equal(await page.getAttribute('#text', 'placeholder'), 'Напишите сообщение')
  const time = await message(page, 'plain')
    .locator('time')
    .evaluate((element) => [element.textContent, (element as HTMLTimeElement).dateTime])
  t.equal(
    time[0],
    new Intl.DateTimeFormat('ru-RU', { timeStyle: 'short', timeZone: 'Asia/Tokyo' }).format(
      new Date(time[1]!)
    )
  )
  await page.selectOption('#language', 'en')
  await page.getByRole('button', { name: 'Log out' }).waitFor()
  await page.reload()
  await page.getByRole('button', { name: 'Log out' }).waitFor()

  const american = await openChat(t, browser, url, { locale: 'en-US' })
  await sees(american, 'plain')
  t.match(await message(american, 'plain').locator('time').textContent(), /[AP]M$/)
})

t.test(
  'in a room of ten thousand, older ones come by scrolling up, the view stays where it is, and the page stays small',
  async (t) => {
    const { url, call, register, post, database } = await startService(t)
    const { userId, token } = await register()
    const client = await connect(t, database)
    await client.query(
      "insert into chat_message (user_id, text, created_at) select $1, 'message ' || n, now() - make_interval(mins => 10000 - n) from generate_series(1, 10000) n",
      [userId]
    )
    await waitUntil(
      'the last message is in the list',
      async () => (await call('GET', '/api/messages?limit=1')).body[0]?.text === 'message 10000'
    )
    const page = await openChat(t, browser, url)
    await sees(page, 'message 10000')
    t.equal(await page.locator('#messages li').count(), 50, 'the newest at first')

    const place = (text: string) =>
      message(page, text).evaluate((element) => element.getBoundingClientRect().top)
    for (const anchor of [9955, 9905, 9855, 9805, 9755]) {
      await message(page, `message ${anchor}`).evaluate((element) => element.scrollIntoView())
      const before = await place(`message ${anchor}`)
      await sees(page, `message ${anchor - 20}`)
      await drawn(page)
      t.ok(Math.abs((await place(`message ${anchor}`)) - before) < 2, `nothing moves at ${anchor}`)
      t.ok((await page.locator('#messages li').count()) <= 200)
    }
    await post(token, 'news while I read')
    await page.getByRole('button', { name: '1 new message' }).waitFor()
    t.equal(await page.title(), '(1) Chat')
    await waitUntil('the way back has led to the news', async () => {
      await page.locator('#scroller').evaluate((element) => {
        element.scrollTop = element.scrollHeight
      })
      return (await message(page, 'news while I read').count()) === 1
    })
    await sees(page, 'news while I read')
    t.strictSame(
      (await texts(page)).slice(-100),
      [...Array.from({ length: 99 }, (_, i) => `message ${9902 + i}`), 'news while I read'],
      'no gap on the way back'
    )
    await page.focus('#scroller')
    await page.keyboard.press('End')
    await page.locator('#newest').waitFor({ state: 'hidden' })
    await page.locator('#scroller').evaluate((element) => {
      element.scrollTop = 0
    })
    await page.getByRole('button', { name: 'Jump to latest' }).click()
    await page.locator('#newest').waitFor({ state: 'hidden' })
  }
)

t.test('two hundred messages a second do not freeze the page', async (t) => {
  const { url, register, database } = await startService(t)
  const { userId } = await register()
  const client = await connect(t, database)
  const page = await openChat(t, browser, url)
  await enter(page, 'alice')
  await page.evaluate(() => {
    const figures = { longTasks: 0, longest: 0, frames: 0 }
    new PerformanceObserver((list) => {
      for (const { duration } of list.getEntries()) {
        figures.longTasks++
        figures.longest = Math.max(figures.longest, duration)
      }
    }).observe({ type: 'longtask' })
    const count = () => {
      figures.frames++
      requestAnimationFrame(count)
    }
    count()
    Object.assign(window, { figures })
  })
  const last = randomUUID()
  const started = performance.now()
  const flood = (async () => {
    for (let n = 0; n < 1000; n += 10) {
      await client.query(
        "insert into chat_message (user_id, text, created_at) select $1, 'flood ' || n, now() from generate_series($2::int, $2::int + 9) n",
        [userId, n]
      )
      await sleep(Math.max(0, started + (n + 10) * 5 - performance.now()))
    }
    await client.query('insert into chat_message (user_id, text, created_at) values ($1, $2, now())', [
      userId,
      last
    ])
    return (performance.now() - started) / 1000
  })()
  const typed: number[] = []
  for (const word of ['it ', 'still ', 'takes ', 'what ', 'I ', 'write']) {
    const asked = performance.now()
    await page.type('#text', word)
    typed.push(performance.now() - asked)
    t.ok((await page.locator('#messages li').count()) <= 200)
  }
  const asked = performance.now()
  await page.press('#text', 'Enter')
  await sees(page, 'it still takes what I write')
  const confirmed = performance.now() - asked
  const seconds = await flood
  await sees(page, last)
  const figures = await page.evaluate(
    () => (window as unknown as { figures: { longTasks: number; longest: number; frames: number } }).figures
  )
  t.comment(
    `${Math.round(1000 / seconds)} messages/s: slowest word ${Math.round(Math.max(...typed))} ms, own message confirmed after ${Math.round(confirmed)} ms, ` +
      `${Math.round(figures.frames / seconds)} frames/s, ${figures.longTasks} long tasks, the longest ${Math.round(figures.longest)} ms`
  )
  t.ok(Math.max(...typed, confirmed) < 2000)
  t.strictSame((await texts(page)).at(-1), last)
  await page.locator('#log').getByText('new messages').waitFor({ state: 'attached' })
  t.ok((await page.locator('#log p').count()) <= 3, 'and nobody has to listen to each of them')
  const all = await readToTheStart(page)
  t.equal(all.filter((text) => text.startsWith('flood')).length, 1000)
  t.strictSame(
    all.filter((text) => text.startsWith('flood')),
    Array.from({ length: 1000 }, (_, n) => `flood ${n}`),
    'none is missing, none is twice'
  )
})

t.test('a browser whose language is one that it does not know itself shows the page', async (t) => {
  const { url, register, post } = await startService(t)
  await post((await register()).token, 'one')
  const page = await openChat(t, browser, 'about:blank')
  await page.addInitScript(() => Object.defineProperty(navigator, 'languages', { value: ['en-US@posix'] }))
  await page.goto(url)
  await sees(page, 'one')
})
