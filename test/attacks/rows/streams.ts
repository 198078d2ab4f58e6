import { setTimeout as sleep } from 'node:timers/promises'
import { connect } from '../../helpers/database.ts'
import { waitUntil } from '../../helpers/raw.ts'
import type { Attacker } from '../attacker.ts'
import { http, statusesOf } from '../requests.ts'
import { row, type Stage } from '../row.ts'
import type { Wire } from '../wire.ts'

const ONE_AT_A_TIME = 'a connection has one request handled at a time, and at most 16 more wait'
const HUGE = 12_000_000
/** Shorter than the long polls last. */
const SETTLE_MS = 15_000

const events = (since?: number) => http('GET', `/api/events${since === undefined ? '' : `?since=${since}`}`)
const longPoll = (after: number) => http('GET', `/api/messages?after_id=${after}&wait=25`)

/** @returns the id of the newest message, and the cursor of the newest event */
async function whereTheRoomIs(attacker: Attacker): Promise<{ newest: number; cursor: number }> {
  const { headers, body } = await attacker.ask({ path: '/api/messages?limit=1' }, { agent: false })
  const [message] = JSON.parse(body) as { id: number }[]
  return { newest: message?.id ?? 0, cursor: Number(headers['x-event-cursor']) }
}

/** Opens a stream as somebody else, to see that there is room for it. */
async function hasRoom({ t, url }: Stage): Promise<void> {
  const end = new AbortController()
  const { body } = await fetch(`${url}/api/events`, { signal: end.signal })
  const reader = body!.getReader()
  await reader.read()
  const isOpen = await Promise.race([
    reader.closed.then(
      () => false,
      () => false
    ),
    sleep(300).then(() => true)
  ])
  t.ok(isOpen, 'somebody else can open a stream')
  end.abort()
}

/**
 * Gives a busy machine, which may not have served all connections when the attack is over, the time for it.
 * What is not so then is found by whoever counts.
 */
const settles = (condition: () => boolean) =>
  waitUntil('all are served', condition, SETTLE_MS).catch(() => {})

/** The text of a body that comes in chunks (RFC 9112, 7.1), as far as it has come. */
function joinChunks(text: string): string {
  const [, length = '', data = ''] = /^([\da-f]+)\r\n([^]*)$/.exec(text) ?? [undefined, '', text]
  const end = parseInt(length, 16)
  return length === '' ? data : data.slice(0, end) + joinChunks(data.slice(end + 2))
}

/** The first line in the answer to `GET /api/events` that belongs to no event, if there is one. */
function strayLine({ head }: Wire): string | undefined {
  const [headers = '', ...rest] = head.split('\r\n\r\n')
  const body = rest.join('\r\n\r\n')
  const text = /^transfer-encoding: chunked$/im.test(headers) ? joinChunks(body) : body
  return text.split('\n').find((line) => !/^((id|data|retry):.*|:.*|)$/.test(line))
}

/** Event streams and long polls. */
export const streams = [
  row({
    name: 'pipelined event streams',
    sent: '6 connections with 1,820 pipelined `GET /api/events` each, closed and opened again',
    stops: `${ONE_AT_A_TIME}; a stream ends with its connection`,
    attack: (attacker) =>
      attacker.repeat(6, async () => {
        const wire = (await attacker.open()).read()
        await wire.send(events().repeat(1820))
        await sleep(50)
        wire.close()
        await wire.closed
      }),
    expect: (stage) => hasRoom(stage)
  }),

  row({
    name: 'pipelined long polls',
    sent: '20,000 pipelined long polls on one connection, all for the same message, which then comes',
    stops: `${ONE_AT_A_TIME}; a message wakes only those who have something to read`,
    attack: async (attacker) => {
      const wire = (await attacker.open()).read()
      const after = (await whereTheRoomIs(attacker)).newest + 25
      for (let n = 0; n < 20 && wire.isOpen; n++) await wire.send(longPoll(after).repeat(1000))
      await attacker.over
      return wire.statuses
    }
  }),

  row({
    name: 'resumed streams that are never read',
    sent: '120 connections that resume 900 events back in a room of long messages, none of which is read',
    stops:
      'streams share their bytes, and each is given more only when it has read; one without progress for 30 s is closed',
    connections: 120,
    holds: true,
    prepare: ({ insert }) => insert(1100, '\u0001'.repeat(2000)),
    attack: async (attacker) => {
      const { cursor } = await whereTheRoomIs(attacker)
      const wires = await attacker.openMany(120)
      await Promise.all(wires.map((wire) => wire.send(events(cursor - 900))))
      await attacker.over
    }
  }),

  row({
    name: 'bytes after the request of a stream',
    sent: '50 connections with `GET /api/events`, then further requests or bytes that are not HTTP',
    stops: 'a stream is the last answer on its connection; nothing else is written into it',
    attack: async (attacker) => {
      const more = [
        http('GET', '/health/livez'),
        '\x00\xff nonsense\r\n\r\n',
        http('POST', '/api/login', { body: '{}' }),
        'GET / HTTP/9.9\r\n\r\n'
      ]
      const wires: Wire[] = []
      await attacker.repeat(50, async (n) => {
        const wire = (await attacker.open()).read()
        wires.push(wire)
        await wire.send(events())
        await Promise.race([attacker.over, wire.answered()])
        for (let i = 0; i < 50 && wire.isOpen && !attacker.isOver; i++) {
          await wire.send(more[n % more.length]!)
          await sleep(20)
        }
        wire.close()
        await wire.closed
      })
      const strayLines = wires.map(strayLine).filter((line) => line !== undefined)
      return {
        mostAnswers: Math.max(...wires.map(({ answers }) => answers)),
        strayLines: strayLines.slice(0, 5)
      }
    },
    expect: ({ t }, found) =>
      t.strictSame(found, { mostAnswers: 1, strayLines: [] }, 'streams hold nothing but events')
  }),

  row({
    name: 'streams that resume from far back',
    sent: '100 connections that resume 199,000 or 5,000 events back and read as fast as they can, again every second',
    stops: 'too far back is a `reset`; few streams at a time read the log',
    connections: 100,
    prepare: async ({ insert }) => {
      await insert(200_000, 'As long a sentence as most that people write in a chat.')
    },
    attack: async (attacker) => {
      const { cursor } = await whereTheRoomIs(attacker)
      await attacker.repeat(100, async (n) => {
        const wire = (await attacker.open()).read()
        await wire.send(events(cursor - (n % 2 === 0 ? 199_000 : 5000)))
        await Promise.race([attacker.over, wire.closed, sleep(1000)])
        wire.close()
        await wire.closed
      })
    }
  }),

  row({
    name: 'a huge message and a slow reader',
    sent: 'a message of 12 MB, by SQL; a stream that reads 500 KB a second',
    stops: 'a stream that makes progress is not closed, so it need not begin again for ever',
    seconds: 60, // It ends as soon as the message is read, after 24 s.
    page: '/api/messages?limit=1',
    prepare: async ({ database, register }) => ({ database, author: (await register(1))[0]!.userId }),
    attack: async (attacker, { database, author }) => {
      const sql = await connect({ teardown: () => {} }, database)
      const wire = (await attacker.open()).readSlowly(500_000)
      await wire.send(events())
      await sleep(500)
      await sql.query(
        `insert into chat_message (user_id, text, created_at)
        values ($1, repeat('x', $2::int), now())`,
        [author, HUGE]
      )
      await sql.end()
      while (wire.isOpen && wire.received < HUGE && !attacker.isOver) await sleep(100)
      await sleep(500)
      return { isOpen: wire.isOpen, isWhole: wire.received >= HUGE }
    },
    expect: ({ t }, found) =>
      t.strictSame(found, { isOpen: true, isWhole: true }, 'it gets the message and goes on')
  }),

  row({
    name: 'many event streams from one address',
    sent: '2,500 connections with a stream each',
    stops: '`MAX_STREAMS_PER_ADDRESS`; further streams are told to come back later, and end',
    connections: 2500,
    attack: async (attacker) => {
      const wires = await attacker.openMany(2500)
      await Promise.all(wires.map((wire) => wire.read().send(events())))
      await attacker.over
      const open = () => wires.filter(({ isOpen }) => isOpen).length
      await settles(() => wires.every(({ answers }) => answers > 0) && open() <= 2000)
      return { open: open(), statuses: statusesOf(wires) }
    },
    expect: async (stage, { open, statuses }) => {
      stage.t.strictSame(statuses, { 200: 2500 }, 'each is answered so that a browser comes back')
      stage.t.equal(open, 2000, 'as many as that stay open')
      await hasRoom(stage)
    }
  }),

  row({
    name: 'many long polls from one address',
    sent: '2,500 connections with a long poll each',
    stops: '`MAX_LONG_POLLS_PER_ADDRESS`; further ones are answered 429',
    connections: 2500,
    attack: async (attacker) => {
      const after = (await whereTheRoomIs(attacker)).newest + 1_000_000
      const wires = await attacker.openMany(2500)
      await Promise.all(wires.map((wire) => wire.read().send(longPoll(after))))
      await attacker.over
      const waiting = () => wires.filter(({ answers }) => answers === 0).length
      await settles(() => waiting() <= 2000)
      return { waiting: waiting(), statuses: statusesOf(wires) }
    },
    expect: ({ t }, { waiting, statuses }) => {
      t.equal(waiting, 2000, 'as many as that wait')
      t.strictSame(statuses, { 429: 500 }, 'the others are refused')
    }
  }),

  row({
    name: 'event streams opened and reset',
    sent: '50 connections with a stream each, reset as soon as it has begun, and opened again',
    stops: 'a stream ends with its connection',
    attack: async (attacker) => {
      let opened = 0
      await attacker.repeat(50, async () => {
        const wire = (await attacker.open()).read()
        await wire.send(events())
        await Promise.race([attacker.over, wire.answered()])
        opened++
        wire.reset()
        await wire.closed
      })
      return opened
    },
    expect: (stage) => hasRoom(stage)
  })
]
