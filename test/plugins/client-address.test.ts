import Fastify from 'fastify'
import t, { type Test } from 'tap'
import clientAddress from '../../src/plugins/client-address.ts'
import { config } from '../helpers/database.ts'

type Headers = Record<string, string | string[]>

/** Makes a function that tells how the service sees a request that came from `peer` with these headers. */
async function setUp(t: Test, TRUST_PROXY: string | undefined) {
  const app = Fastify()
  t.teardown(() => app.close())
  const { TRUST_PROXY: _, ...rest } = config
  await app.register(clientAddress, {
    config: { ...rest, ...(TRUST_PROXY !== undefined && { TRUST_PROXY }) }
  })
  app.get('/', async ({ clientAddress, isBehindUnknownProxy }) => ({ clientAddress, isBehindUnknownProxy }))
  return async (peer: string, headers: Headers = {}) =>
    (await app.inject({ path: '/', remoteAddress: peer, headers })).json<{
      clientAddress: string
      isBehindUnknownProxy: boolean
    }>()
}

t.test('every spelling of an address counts as one client', async (t) => {
  const ask = await setUp(t, '127.0.0.1')
  const hex = (address: string) =>
    address
      .split('.')
      .map((part) => Number(part).toString(16).padStart(2, '0'))
      .join('')
  for (const [client, spellings] of [
    [
      '203.0.113.7',
      [
        '203.0.113.7',
        ' 203.0.113.7\t',
        '203.0.113.7:1',
        '203.0.113.7:65535',
        '203.0.113.7:',
        '[203.0.113.7]:80',
        '::ffff:203.0.113.7',
        '::FFFF:cb00:7107',
        '0:0:0:0:0:ffff:cb00:7107',
        '0000:0000:0000:0000:0000:ffff:203.0.113.7',
        '[::ffff:203.0.113.7]',
        '[::ffff:cb00:7107]:443',
        '::ffff:203.0.113.7%eth0',
        // Translated on the way by NAT64 (RFC 6052), SIIT (RFC 2765), or in the form that RFC 4291
        // deprecates.
        '64:ff9b::203.0.113.7',
        '64:ff9b::cb00:7107',
        '[64:ff9b::cb00:7107]:5',
        '::ffff:0:203.0.113.7',
        '::203.0.113.7',
        '::cb00:7107'
      ]
    ],
    [
      '2001:db8:7:7::/64',
      [
        '2001:db8:7:7::9',
        '2001:db8:7:7::a',
        '2001:DB8:7:7:ffff:ffff:ffff:ffff',
        '2001:0db8:0007:0007::',
        '[2001:db8:7:7::9]',
        '[2001:db8:7:7::9]:1234',
        '[2001:db8:7:7:1::]:',
        '2001:db8:7:7::203.0.113.7',
        '2001:db8:7:7::1%eth0',
        '2001:db8:7:7::1%x:1'
      ]
    ],
    ['2001:db8::/64', ['2001:db8::1', '[2001:db8::1]:1234', '2001:db8:0:0:1::', '2001:db8::1:1234']],
    ['fe80::/64', ['fe80::1', 'fe80::1%eth0', 'fe80::2%eth1', '[fe80::1%25eth0]:80']],
    ['::/64', ['::1', '[::1]:80', '::']]
  ] as const) {
    for (const spelling of spellings) {
      t.equal((await ask('127.0.0.1', { 'x-forwarded-for': spelling })).clientAddress, client, spelling)
    }
  }
  for (const address of ['203.0.113.99', '10.0.0.1', '255.255.255.255', '1.0.0.0']) {
    const embedded = hex(address).match(/.{4}/g)!.join(':')
    t.equal((await ask('127.0.0.1', { 'x-forwarded-for': `[::ffff:${embedded}]:1` })).clientAddress, address)
  }
})

t.test('an invalid address is replaced by that of the proxy', async (t) => {
  const ask = await setUp(t, '127.0.0.1, 10.0.0.0/8')
  for (const entry of [
    '',
    ' ',
    ',',
    ', ,',
    'unknown',
    '_hidden7',
    '203.0.113.077',
    '203.0.113.7.',
    '0x7f.1',
    '0xcb007107',
    '3405803783',
    '127.1',
    '203.0.113',
    '203.0.113.256',
    '203.0.113.7:80:80',
    '203.0.113.7:http',
    '203.0.113.7:1234567',
    '203.0.113.7/24',
    '203.0.113.7 203.0.113.8',
    '[203.0.113.7',
    '203.0.113.7]',
    '[]',
    '[]:1',
    '[[::1]]',
    '2001:db8:::1',
    '1::2::3',
    '1:2:3:4:5:6:7:8:9',
    '2001:db8::1]',
    '[2001:db8::1',
    '2001:db8::g',
    '::1%',
    '"203.0.113.7"',
    'for=203.0.113.7',
    'http://203.0.113.7',
    '\u0661.2.3.4',
    '1'.repeat(8000)
  ]) {
    const header = Buffer.from(entry).toString('latin1')
    t.equal(
      (await ask('127.0.0.1', { 'x-forwarded-for': header })).clientAddress,
      '127.0.0.1',
      entry.slice(0, 30)
    )
    t.equal(
      (await ask('127.0.0.1', { 'x-forwarded-for': `198.51.100.1, ${header}, 10.0.0.5` })).clientAddress,
      entry.replace(/[, ]/g, '') === '' ? '198.51.100.1' : '10.0.0.5',
      'nothing is believed from before it'
    )
  }
  t.equal((await ask('::ffff:127.0.0.1', { 'x-forwarded-for': 'unknown' })).clientAddress, '127.0.0.1')
})

t.test('the address is the last one that a trusted proxy wrote', async (t) => {
  const ask = await setUp(t, '127.0.0.1, 10.0.0.0/8, fd00::/8, ::ffff:192.0.2.0/120, 198.51.100.7')
  for (const [peer, header, client] of [
    ['203.0.113.9', '1.2.3.4', '203.0.113.9'],
    ['127.0.0.1', '1.2.3.4', '1.2.3.4'],
    ['::ffff:127.0.0.1', '1.2.3.4', '1.2.3.4'],
    ['fd00:1::2', '1.2.3.4', '1.2.3.4'],
    ['fc00:1::2', '1.2.3.4', 'fc00:1::/64'],
    ['127.0.0.1', '6.6.6.6, 1.2.3.4', '1.2.3.4'],
    ['127.0.0.1', '6.6.6.6, 1.2.3.4, 10.1.2.3', '1.2.3.4'],
    ['127.0.0.1', '6.6.6.6, 1.2.3.4, 10.1.2.3:5678, [fd00::9]:1234, [::ffff:10.0.0.1]', '1.2.3.4'],
    ['127.0.0.1', '6.6.6.6,1.2.3.4 , ,\t192.0.2.200 ,', '1.2.3.4'],
    ['127.0.0.1', '1.2.3.4, 192.0.3.1', '192.0.3.1'],
    ['127.0.0.1', '1.2.3.4, 198.51.100.8', '198.51.100.8'],
    ['127.0.0.1', ['6.6.6.6', '1.2.3.4, 10.1.2.3', '198.51.100.7'], '1.2.3.4'],
    ['127.0.0.1', '10.1.2.3, 10.1.2.4', '10.1.2.3'],
    // Whoever is trusted as IPv4 is not trusted in a form that only stands for it.
    ['127.0.0.1', '1.2.3.4, 64:ff9b::10.1.2.3', '10.1.2.3']
  ] as const) {
    const headers = { 'x-forwarded-for': typeof header === 'string' ? header : [...header] }
    t.equal((await ask(peer, headers)).clientAddress, client, `${peer}: ${String(header)}`)
  }
  t.equal((await ask('127.0.0.1')).clientAddress, '127.0.0.1')
  const { clientAddress } = await ask('127.0.0.1', { 'x-real-ip': '1.2.3.4', forwarded: 'for=1.2.3.4' })
  t.equal(clientAddress, '127.0.0.1', 'only X-Forwarded-For is read')
})

t.test('connections whose address is no longer known count as one client', async (t) => {
  const ask = await setUp(t, '127.0.0.1')
  // An empty text is what the simulated connection of `inject` takes for its own default.
  t.equal((await ask('nowhere', { 'x-forwarded-for': '1.2.3.4' })).clientAddress, 'unknown')
})

t.test('an unknown proxy is detected', async (t) => {
  const unnamed = await setUp(t, undefined)
  const named = await setUp(t, '10.0.0.1')
  for (const header of ['x-forwarded-for', 'forwarded', 'x-real-ip']) {
    t.strictSame(
      await unnamed('127.0.0.1', { [header]: '1.2.3.4' }),
      { clientAddress: '127.0.0.1', isBehindUnknownProxy: true },
      header
    )
    t.equal((await named('127.0.0.1', { [header]: '1.2.3.4' })).isBehindUnknownProxy, false)
  }
  t.strictSame(await unnamed('2001:db8::1'), { clientAddress: '2001:db8::/64', isBehindUnknownProxy: false })
})
