import { setTimeout as sleep } from 'node:timers/promises'
import type { Attacker } from '../attacker.ts'
import { bearer, count, http, statusesOf } from '../requests.ts'
import { row } from '../row.ts'
import type { Wire } from '../wire.ts'

const ONE_AT_A_TIME = 'a connection has one request handled at a time, and at most 16 more wait'
/** What is due after 10 s is looked for every second. */
const CLOSED_MS = 13_000
const REFUSED = [
  ['/api/login', 413],
  ['/api/messages', 401],
  ['/nowhere', 404]
] as const

/**
 * Sends bodies of 900 KB at the same time, and reads nothing before. @returns what each of them was answered
 */
async function sendLargeBodies(attacker: Attacker, number: number): Promise<string[]> {
  const body = JSON.stringify({ nickname: 'x'.repeat(900_000), password: 'x' })
  return Promise.all(
    Array.from({ length: number }, async (_, n) => {
      const [path] = REFUSED[n % REFUSED.length]!
      const wire = await attacker.open()
      const request = http('POST', path, { body })
      const slice = 64 * 1024
      for (let from = 0; from < request.length; from += slice) {
        await wire.send(request.slice(from, from + slice))
      }
      await Promise.race([attacker.over, wire.read().answered()])
      wire.close()
      return `${path}: ${Object.keys(wire.statuses)[0] ?? 'nothing'}`
    })
  )
}

const refusals = (number: number) =>
  Array.from({ length: number }, (_, n) => REFUSED[n % REFUSED.length]!.join(': '))

/** Connections, and what can be done with HTTP itself. */
export const connections = [
  row({
    name: 'slow and silent connections (Slowloris)',
    sent: '1,000 connections that send nothing, 25 that send a header a second, 25 that send a byte of a body a second',
    stops:
      'a request must be complete after 10 s, else it is answered 408; a silent connection is closed after 10 s',
    connections: 1050,
    attack: async (attacker) => {
      const silent = await attacker.openMany(1000)
      const slow = await attacker.openMany(50)
      const wires = [...silent, ...slow]
      for (const wire of wires) wire.read()
      // From the last of them on, because a busy machine takes its time to open so many.
      const closeBy = performance.now() + CLOSED_MS
      const withBody =
        'POST /api/login HTTP/1.1\r\nhost: chat\r\n' +
        'content-type: application/json\r\ncontent-length: 60000\r\n\r\n'
      await Promise.all(
        slow.map(async (wire, n) => {
          const isBody = n % 2 === 0
          await wire.send(isBody ? withBody : 'GET / HTTP/1.1\r\n')
          for (let line = 0; wire.isOpen && performance.now() < closeBy; line++) {
            await wire.send(isBody ? ' ' : `x-${line}: 1\r\n`)
            await sleep(1000)
          }
        })
      )
      const areClosed = Promise.all(wires.map(({ closed }) => closed))
      await Promise.race([areClosed, sleep(closeBy - performance.now())])
      return { open: wires.filter(({ isOpen }) => isOpen).length, slow: statusesOf(slow) }
    },
    expect: ({ t }, found) => t.strictSame(found, { open: 0, slow: { 408: 50 } }, 'all of them are closed')
  }),

  row({
    name: 'pages that are never read',
    sent: '2 connections with 700 pipelined pages of 200 long messages each, none of which is read',
    stops:
      `${ONE_AT_A_TIME}; a large page is sent at the pace at which it is read; a connection without ` +
      'progress for 30 s is closed',
    holds: true,
    prepare: ({ insert }) => insert(1200, '\u0001'.repeat(2000)),
    attack: async (attacker, ids) => {
      const wires = await attacker.openMany(2)
      for (const [n, wire] of wires.entries()) {
        const cursors = Array.from({ length: 700 }, (_, i) => ids[400 + i + n * 100]!)
        wire.send(cursors.map((id) => http('GET', `/api/messages?limit=200&before_id=${id}`)).join(''))
      }
      await attacker.over
    }
  }),

  row({
    name: 'the OpenAPI document, right after a start',
    sent: '1,400 pipelined requests on one connection, before anybody has asked for it',
    stops: `the document is made once, however many ask at the same time; ${ONE_AT_A_TIME}`,
    isFresh: true,
    attack: async (attacker) => {
      const wire = (await attacker.open()).read()
      await wire.send(http('GET', '/api/openapi.json').repeat(1400))
      await Promise.race([attacker.over, wire.answered(1400)])
      return wire.statuses
    }
  }),

  row({
    name: 'a flood of small requests',
    sent: '50 connections with as many pipelined requests of 30 bytes as fit, opened again when they are closed',
    stops: `${ONE_AT_A_TIME}; connections that send more are closed`,
    attack: async (attacker) => {
      const lines = ['HEAD /', 'GET /x', 'HEAD /api/messages', 'GET /health/livez']
      const wires: Wire[] = []
      await attacker.repeat(50, async (n) => {
        const wire = (await attacker.open()).read()
        wires.push(wire)
        const requests = `${lines[n % lines.length]} HTTP/1.1\r\nhost:a\r\n\r\n`.repeat(100)
        while (wire.isOpen && !attacker.isOver) await wire.send(requests)
        wire.close()
        await wire.closed
      })
      return statusesOf(wires)
    }
  }),

  row({
    name: 'garbage after a valid request',
    sent: '50 connections with one request and then endless bytes that are not HTTP, opened again when they are closed',
    stops: 'the request is answered, the rest is answered 400, and the connection is closed',
    attack: async (attacker) => {
      const garbage = '\x00\xff nonsense \r\n\r\n'
      const wires: Wire[] = []
      await attacker.repeat(50, async () => {
        const wire = (await attacker.open()).read()
        wires.push(wire)
        await wire.send(http('GET', '/health/livez') + garbage.repeat(100))
        while (wire.isOpen && !attacker.isOver) await wire.send(garbage.repeat(500))
        await Promise.race([attacker.over, wire.closed])
        wire.close()
      })
      return statusesOf(wires)
    },
    expect: ({ t }, found) => t.strictSame(Object.keys(found), ['200', '400'], 'nothing else is answered')
  }),

  row({
    name: 'large headers',
    sent: '50 connections with 8 KB of headers in each request, 20 KB in every tenth',
    stops: 'more than 16 KB of headers are answered 431, and the connection is closed',
    attack: async (attacker) => {
      const withHeaders = (number: number) =>
        http('GET', '/api/messages?limit=1', {
          headers: Object.fromEntries(Array.from({ length: number }, (_, n) => [`x-header-${n}`, 'value']))
        })
      const [legal, tooLarge] = [withHeaders(400), withHeaders(1000)]
      const wires: Wire[] = []
      await attacker.repeat(50, async (n) => {
        const wire = (await attacker.open()).read()
        wires.push(wire)
        for (let sent = 1; wire.isOpen && !attacker.isOver; sent++) {
          await wire.send((n + sent) % 10 === 0 ? tooLarge : legal)
          await Promise.race([attacker.over, wire.answered(sent)])
        }
        wire.close()
      })
      return statusesOf(wires)
    },
    expect: ({ t }, found) => t.strictSame(Object.keys(found), ['200', '431'], 'nothing else is answered')
  }),

  row({
    name: 'endless chunked bodies',
    sent: '50 connections with bodies in chunks of 64 KB, in chunks of one byte, or with endless chunk extensions',
    stops: 'a body beyond 64 KiB is answered 413; the rest is discarded, up to 16 MiB and for 10 s at most',
    prepare: async ({ register }) => (await register(1))[0]!.token,
    attack: async (attacker, token) => {
      const chunks = [
        `ffff\r\n${'x'.repeat(0xffff)}\r\n`,
        '1\r\nx\r\n'.repeat(2000),
        `1;${'x'.repeat(10_000)}\r\nx\r\n`
      ]
      const headers = { 'content-type': 'application/json', 'transfer-encoding': 'chunked', ...bearer(token) }
      const wires: Wire[] = []
      await attacker.repeat(50, async (n) => {
        const wire = (await attacker.open()).read()
        wires.push(wire)
        await wire.send(http('POST', n % 2 === 0 ? '/api/login' : '/api/messages', { headers }))
        while (wire.isOpen && !attacker.isOver) await wire.send(chunks[n % chunks.length]!)
        wire.close()
      })
      return statusesOf(wires)
    },
    expect: ({ t }, found) => {
      t.ok((found['413'] ?? 0) > 0, 'they are refused')
      t.strictSame(
        Object.keys(found).filter((status) => !status.startsWith('4')),
        [],
        'nothing else is answered'
      )
    }
  }),

  row({
    name: 'large bodies on routes that refuse them',
    sent: '5 bodies of 900 KB at a time (answered 413, 401 or 404) by a client that reads only after it has sent everything',
    stops: 'the answer is sent at once, and arrives: the rest is discarded before the connection is closed',
    seconds: 30, // It ends as soon as each has its answer, which takes 9 s at the attacker's pace.
    attack: async (attacker) => [
      ...(await sendLargeBodies(attacker, 5)),
      ...(await sendLargeBodies(attacker, 5))
    ],
    expect: ({ t }, found) => t.strictSame(found, [...refusals(5), ...refusals(5)], 'each gets its answer')
  }),

  row({
    name: 'large bodies through nginx',
    sent: '16 such bodies at once, through an nginx with its defaults (HTTP/1.0, a failed replica is left out for 10 s)',
    stops: 'as above, so that nginx marks no replica as failed',
    isProxied: true,
    seconds: 45, // as above; 15 s
    attack: (attacker) => sendLargeBodies(attacker, 16),
    expect: ({ t }, found) => t.strictSame(found, refusals(16), 'each gets its answer')
  }),

  row({
    name: 'odd JSON',
    sent: '50 connections with bodies of 60 KB: 30,000 nested arrays, 5,000 keys, nested `__proto__`, a number of 60,000 digits',
    stops: 'the checks take time in proportion to the input; the schemas are strict',
    attack: async (attacker) => {
      const bodies = [
        '['.repeat(30_000) + ']'.repeat(30_000),
        `{${Array.from({ length: 5000 }, (_, n) => `"k${n}":{}`).join(',')}}`,
        `{"nickname":${'{"__proto__":'.repeat(4000)}1${'}'.repeat(4000)}}`,
        `{"nickname":${'9'.repeat(60_000)},"password":"x"}`
      ]
      const headers = { 'content-type': 'application/json' }
      const answers: number[] = []
      await attacker.repeat(50, async (n) => {
        const { status } = await attacker.ask({
          method: 'POST',
          path: '/api/login',
          headers,
          body: bodies[n % 4]!
        })
        if (!attacker.isOver) answers.push(status)
      })
      return count(answers)
    },
    expect: ({ t }, found) => t.strictSame(Object.keys(found), ['400'], 'each is refused')
  }),

  row({
    name: 'connections reset at any moment',
    sent: '50 connections, each reset and opened again: silent, within a request, or within the answers to 1 or 20 requests',
    stops: 'what a request holds is released when its connection is gone',
    prepare: ({ insert }) => insert(300, 'x'.repeat(2000)),
    attack: async (attacker) => {
      const page = http('GET', '/api/messages?limit=200')
      const beginnings = [
        '',
        'GET /api/mess',
        page,
        page.repeat(20),
        http('POST', '/api/login', { body: '{"nickname":"nobody","password":"nothing"}' }),
        http('GET', '/api/events?since=1')
      ]
      let resets = 0
      await attacker.repeat(50, async (n) => {
        const wire = await attacker.open()
        await wire.send(beginnings[(n + resets) % beginnings.length]!)
        if (resets++ % 2 === 0) await sleep(Math.random() * 20)
        wire.reset()
        await wire.closed
      })
      return resets
    }
  }),

  row({
    name: 'upgrades and other protocols',
    sent: '50 connections with `Upgrade: websocket`, `Upgrade: h2c`, `CONNECT` or the preface of HTTP/2, and bytes after it',
    stops: 'an upgrade is ignored, everything else is refused',
    attack: async (attacker) => {
      const upgrade = (protocol: string) => ({
        connection: 'upgrade',
        upgrade: protocol,
        'http2-settings': ''
      })
      const requests = [
        http('GET', '/api/events', { headers: upgrade('websocket') }),
        http('GET', '/health/livez', { headers: upgrade('h2c') }),
        http('CONNECT', 'chat:443'),
        'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'
      ]
      const frames = '\x81\x85\x00\x00\x00\x00hello'.repeat(20)
      const wires: Wire[] = []
      await attacker.repeat(50, async (n) => {
        const wire = (await attacker.open()).read()
        wires.push(wire)
        await wire.send(requests[n % 4]! + frames)
        await Promise.race([attacker.over, wire.closed])
        wire.close()
      })
      return statusesOf(wires)
    },
    expect: ({ t }, found) =>
      t.strictSame(
        Object.keys(found).filter((status) => !['200', '400'].includes(status)),
        [],
        'no protocol is switched'
      )
  }),

  row({
    name: 'every connection in use',
    sent: 'with `MAX_CONNECTIONS=100`, 150 connections: 50 silent, 50 idle after a request, 50 with a long poll',
    stops:
      'an idle connection makes room for a new one; where none is idle, the health still answers, and everything else is 503',
    env: { MAX_CONNECTIONS: '100' },
    connections: 150,
    mayRefuse: true,
    attack: async (attacker) => {
      const requests = [
        '',
        http('GET', '/health/livez'),
        http('GET', '/api/messages?after_id=999999999&wait=25')
      ]
      const wires: Wire[] = []
      await attacker.repeat(150, async (n) => {
        const wire = (await attacker.open()).read()
        wires.push(wire)
        await wire.send(requests[n % 3]!)
        await Promise.race([attacker.over, wire.closed])
        wire.close()
        await sleep(200)
      })
      return statusesOf(wires)
    }
  }),

  row({
    name: 'every connection in use by long polls',
    sent: 'with `MAX_CONNECTIONS=100`, 150 connections with a long poll each, opened again when they are closed',
    stops: 'as above: there is always room for the health',
    env: { MAX_CONNECTIONS: '100' },
    connections: 150,
    mayRefuse: true,
    attack: async (attacker) => {
      const wires: Wire[] = []
      await attacker.repeat(150, async () => {
        const wire = (await attacker.open()).read()
        wires.push(wire)
        await wire.send(http('GET', '/api/messages?after_id=999999999&wait=25'))
        await Promise.race([attacker.over, wire.closed])
        wire.close()
        await sleep(200)
      })
      return statusesOf(wires)
    }
  })
]
