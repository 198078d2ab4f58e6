import t from 'tap'
import { startService } from '../helpers/app.ts'
import { choose, enter, message, openChat, sees, startBrowser, write } from '../helpers/browser.ts'

const browser = await startBrowser(t)
t.jobs = 1

t.test('Markdown becomes elements of the page, never markup that somebody wrote', async (t) => {
  const { url, register, post } = await startService(t)
  const { token } = await register()
  await post(
    token,
    '**bold <i>x</i>**, *italic*, `<b>code</b>`, www.example.com/a_(b)\n```js\nlet a = "<img src=x>"\n```\nand the end'
  )
  const page = await openChat(t, browser, url)
  const text = page.locator('#messages .text')
  await text.getByText('and the end').waitFor()
  t.strictSame(
    await text.evaluate((element) =>
      [...element.querySelectorAll('*')].map(({ localName, textContent }) => [localName, textContent])
    ),
    [
      ['strong', 'bold <i>x</i>'],
      ['em', 'italic'],
      ['code', '<b>code</b>'],
      ['a', 'www.example.com/a_(b)'],
      ['pre', 'let a = "<img src=x>"'],
      ['code', 'let a = "<img src=x>"']
    ]
  )
  t.equal(await text.locator('a').getAttribute('href'), 'https://www.example.com/a_(b)')
  const [time, end] = [await page.locator('#messages time').boundingBox(), await text.boundingBox()]
  t.ok(
    time!.y + time!.height <= end!.y + end!.height + 1,
    'after a block, the time is in the last line as well'
  )
})

t.test('names are completed while one writes them, and whoever is mentioned sees it', async (t) => {
  const { url } = await startService(t)
  const [alice, bob] = [await openChat(t, browser, url), await openChat(t, browser, url)]
  await enter(alice, 'alice')
  await enter(bob, 'Bob the builder')
  await write(bob, 'hello')
  await sees(alice, 'hello')
  await alice.focus('#text')
  await alice.keyboard.type('well, @bu')
  await alice.getByRole('option', { name: 'Bob the builder', selected: true }).waitFor()
  await alice.keyboard.press('Escape')
  t.equal(await alice.getByRole('listbox').isVisible(), false)
  await alice.keyboard.type('i')
  await alice.getByRole('option', { name: 'Bob the builder' }).waitFor()
  // As Safari tells of the Enter that confirms what an input method has composed.
  await alice.locator('#text').evaluate((field) => {
    field.dispatchEvent(new KeyboardEvent('keydown', { key: 'Enter', keyCode: 229, cancelable: true }))
  })
  t.equal(await alice.inputValue('#text'), 'well, @bui')
  await alice.keyboard.press('Enter')
  t.equal(await alice.inputValue('#text'), 'well, @Bob the builder ')
  await alice.keyboard.type('hello')
  await alice.keyboard.press('Enter')
  const mention = (page: typeof bob) => page.locator('#messages mark').filter({ hasText: '@Bob the builder' })
  await mention(bob).waitFor()
  t.equal(await mention(alice).count(), 0)
})

t.test('the Enter key does what its label on a screen keyboard says', async (t) => {
  const { url } = await startService(t)
  const desktop = await openChat(t, browser, url)
  t.equal(await desktop.getAttribute('#text', 'enterkeyhint'), 'send')
  const phone = await openChat(t, browser, url, { isMobile: true, hasTouch: true })
  t.equal(await phone.getAttribute('#text', 'enterkeyhint'), 'enter')
  await enter(phone, 'alice')
  await phone.focus('#text')
  await phone.keyboard.type('one')
  await phone.keyboard.press('Enter')
  await phone.keyboard.type('two')
  await phone.click('#send')
  await message(phone, 'one\ntwo').waitFor()
})

t.test('the page needs no scrolling sideways at 320 pixels, nor at twice the size', async (t) => {
  const { url, register, post } = await startService(t)
  const { token } = await register()
  await post(token, `${'W'.repeat(300)} \`${'x'.repeat(300)}\`\n\`\`\`\n${'y'.repeat(300)}\n\`\`\``)
  for (const locale of ['en-GB', 'ru-RU']) {
    const page = await openChat(t, browser, url, { locale, viewport: { width: 320, height: 512 } })
    await page.locator('#messages li').waitFor()
    const tooWide = () =>
      page.evaluate(() =>
        [...document.querySelectorAll('body *:not(.unseen, #me)')]
          .filter((element) => {
            const { right, width } = element.getBoundingClientRect()
            return width > 1 && right > innerWidth + 1
          })
          .map(({ outerHTML }) => outerHTML.slice(0, 80))
      )
    t.strictSame(await tooWide(), [], `logged out, ${locale}`)
    await enter(page, `a nickname that is quite long ${locale}`)
    await page.fill('#text', 'x'.repeat(2010))
    t.strictSame(await tooWide(), [], `logged in, ${locale}`)
    await page.setViewportSize({ width: 640, height: 512 })
    await page.evaluate(() => document.documentElement.style.setProperty('font-size', '200%'))
    t.strictSame(await tooWide(), [], `twice the size, ${locale}`)
  }
})

t.test('what is typed while an edit is being saved is kept, and saved by the next Enter', async (t) => {
  const { url } = await startService(t)
  const page = await openChat(t, browser, url)
  await enter(page, 'alice')
  await write(page, 'one')
  await sees(page, 'one')
  let answer = () => {}
  const answered = new Promise<void>((resolve) => {
    answer = resolve
  })
  await page.route('**/api/messages/*', async (route) => {
    await answered
    await route.continue()
  })
  await choose(message(page, 'one'), 'Edit')
  await write(page, 'one, two')
  await page.locator('#text').pressSequentially(', three')
  answer()
  await sees(page, 'one, two')
  await page.waitForFunction(() => document.querySelector('#composer')!.ariaBusy === null)
  t.equal(await page.inputValue('#text'), 'one, two, three')
  await page.press('#text', 'Enter')
  await sees(page, 'one, two, three')
  await page.waitForFunction(() => document.querySelector<HTMLTextAreaElement>('#text')!.value === '')
})

t.test('an edit that is half written survives a reload, and so does the draft behind it', async (t) => {
  const { url } = await startService(t)
  const page = await openChat(t, browser, url)
  await enter(page, 'alice')
  await write(page, 'one')
  await sees(page, 'one')
  await page.fill('#text', 'a draft')
  await choose(message(page, 'one'), 'Edit')
  await page.fill('#text', 'one, cha')
  await page.reload()
  await sees(page, 'one')
  t.equal(await page.inputValue('#text'), 'one, cha')
  await page.getByRole('button', { name: 'Save' }).waitFor()
  await page.locator('#text').press('End')
  await page.locator('#text').pressSequentially('nged')
  await page.press('#text', 'Enter')
  await sees(page, 'one, changed')
  await page.waitForFunction(() => document.querySelector<HTMLTextAreaElement>('#text')!.value === 'a draft')
  await page.reload()
  await sees(page, 'one, changed')
  t.equal(await page.inputValue('#text'), 'a draft')
})
