import t from 'tap'
import { startService } from '../helpers/app.ts'
import { startBrowser } from '../helpers/browser.ts'

t.test(
  'the page of the API works in a browser, without a word to any other host, and its operations can be tried',
  async (t) => {
    const { url, call, register, post } = await startService(t)
    const { token } = await register()
    await post(token, 'hello from alice')
    const { body: document } = await call('GET', '/api/openapi.json')

    const page = await (await startBrowser(t)).newPage({ viewport: { width: 1280, height: 800 } })
    const complaints: string[] = []
    const hosts = new Set<string>()
    page.on('console', (message) => {
      if (['error', 'warning'].includes(message.type())) complaints.push(message.text())
    })
    page.on('pageerror', (error) => complaints.push(`${error}`))
    page.on('requestfailed', (request) => complaints.push(`${request.url()} failed`))
    page.on('request', (request) => {
      if (!request.url().startsWith('data:')) hosts.add(new URL(request.url()).origin)
    })

    await page.goto(`${url}/api/docs`)
    const operations = Object.values<object>(document.paths).flatMap((path) => Object.keys(path))
    await page
      .locator('.opblock')
      .nth(operations.length - 1)
      .waitFor()
    t.equal(
      await page.locator('.opblock').count(),
      operations.length,
      'each operation of the document is there'
    )

    const posting = page.locator('#operations-messages-postMessage')
    await page.locator('.btn.authorize').click()
    await page.locator('.auth-container input').fill(token)
    await page.locator('.auth-container button.authorize').click()
    await page.locator('.btn-done').click()
    await posting.locator('.opblock-summary-control').click()
    await posting.locator('textarea').first().fill('{"text":"posted by the page"}')
    await posting.getByRole('button', { name: 'Execute' }).click()
    await posting.locator('.live-responses-table').getByText('posted by the page').waitFor()
    await posting.locator('.opblock-summary-control').click()

    const list = page.locator('#operations-messages-listMessages')
    await list.locator('.opblock-summary-control').click()
    await list.getByRole('button', { name: 'Execute' }).click()
    const answer = list.locator('.live-responses-table')
    await answer.getByText('hello from alice').waitFor()
    t.match(await answer.textContent(), 'posted by the page')
    // `DOCS_PICTURE=docs/api-docs.png npm run test:browser` redraws the picture in docs/api.md.
    if (process.env['DOCS_PICTURE']) {
      await page.evaluate(
        "document.querySelector('#operations-messages-listMessages .live-responses-table').scrollIntoView({ block: 'center' })"
      )
      await page.screenshot({ path: process.env['DOCS_PICTURE'] })
    }

    t.strictSame(complaints, [])
    t.strictSame([...hosts], [url])
  }
)
