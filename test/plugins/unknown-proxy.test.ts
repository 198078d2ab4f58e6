import t, { type Test } from 'tap'
import type { Config } from '../../src/config.ts'
import { startService } from '../helpers/app.ts'

const SECRET = '198.51.100.77'

/** @returns the warnings about proxies after requests with these headers */
async function warnings(
  t: Test,
  settings: Partial<Config>,
  ...requests: Record<string, string>[]
): Promise<unknown[]> {
  const { call, logs } = await startService(t, settings)
  for (const headers of requests) {
    await call('GET', '/api/messages', { headers })
    await call('POST', '/api/login', { headers, body: { nickname: 'nobody', password: 'wrong' } })
  }
  t.notMatch(JSON.stringify(logs), SECRET, 'what a client sent is not in the log')
  return logs.filter(({ level, msg }) => level === 40 && String(msg).includes('TRUST_PROXY'))
}

for (const name of ['X-Forwarded-For', 'Forwarded', 'X-Real-IP']) {
  const headers = { [name]: name === 'Forwarded' ? `for=${SECRET}` : SECRET }
  t.test(`${name} from an address that TRUST_PROXY does not cover is logged once`, async (t) => {
    for (const settings of [{}, { TRUST_PROXY: '10.0.0.0/8' }]) {
      const found = await warnings(t, { RATE_LIMIT: 'on', ...settings }, headers, headers, headers)
      t.match(found, [
        {
          msg:
            `127.0.0.1 sends ${name}, and TRUST_PROXY does not cover it, so everybody behind it shares the rate limits of one address: ` +
            'if it is your proxy, add it to TRUST_PROXY and let it send X-Forwarded-For'
        }
      ])
      t.equal(found.length, 1)
    }
  })

  t.test(`${name} is not logged if the proxy is trusted or nothing is limited`, async (t) => {
    t.strictSame(await warnings(t, { RATE_LIMIT: 'on', TRUST_PROXY: '127.0.0.0/8' }, headers), [])
    t.strictSame(await warnings(t, { RATE_LIMIT: 'off' }, headers), [])
  })
}

t.test('without a forwarding header nothing is logged', async (t) => {
  t.strictSame(await warnings(t, { RATE_LIMIT: 'on' }, {}, { 'x-request-id': 'a' }), [])
})
