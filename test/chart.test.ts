import { readFileSync } from 'node:fs'
import t from 'tap'
import { startService } from './helpers/app.ts'
import { waitUntil } from './helpers/raw.ts'

t.test(
  'every metric that the alerts and the dashboard of the chart ask for is one that the service has',
  async (t) => {
    const { call, register, post } = await startService(t)
    await post((await register()).token, 'hello')
    let served = new Set<string>()
    // Requests are counted after they are answered.
    await waitUntil('the request is counted', async () => {
      const { body } = await call('GET', '/metrics')
      served = new Set((body as string).match(/^[a-z_0-9]+(?=[{ ])/gm))
      return served.has('http_request_duration_seconds_count')
    })
    for (const file of ['alerts.yaml', 'dashboard.json']) {
      const text = readFileSync(new URL(`../helm/chat-backend/files/${file}`, import.meta.url), 'utf8')
      // In an expression, not in a sentence: what follows is a selector, a range or the end of an argument.
      const names = new Set(text.match(/\b(?:chat|http_request|nodejs|process)_[a-z_0-9]+(?=[{[,)])/g))
      t.ok(names.size > 5, `${file} has some`)
      for (const name of names) t.ok(served.has(name), `${name} of ${file}`)
    }
  }
)
