import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import { EventParser } from '../../web/events.js'

const stream = [
  'retry: 2000\n\n: connected\n\n',
  'id: 7\ndata: {"type":"message_deleted","id":1}\n\n',
  ': still here\n\n',
  'id: 8\ndata: {"type":"message_created","message":{"id":9,"text":"a: b, data: c"}}\n\n',
  'retry: 500\n\n'
].join('')
const events = [
  { type: 'message_deleted', id: 1, seq: 7 },
  { type: 'message_created', message: { id: 9, text: 'a: b, data: c' }, seq: 8 }
]

t.test('a stream is parsed, however it is cut into parts', async (t) => {
  fc.assert(
    fc.property(fc.array(fc.nat(stream.length)), (cuts) => {
      const at = [0, ...cuts.sort((a, b) => a - b), stream.length]
      const parser = new EventParser()
      const found = at.slice(1).flatMap((end, i) => parser.push(stream.slice(at[i], end)))
      assert.deepEqual(found, events)
      assert.equal(parser.retryMs, 500)
      assert.equal(parser.isOpen, true)
    }),
    { numRuns: 500 }
  )
  t.pass()
})

t.test('a stream that only asks to come back later is not open', async (t) => {
  for (const [text, isOpen] of [
    ['', false],
    ['retry: 9000\n\n', false],
    ['retry: 9000\n', false],
    ['\n\n', false],
    ['retry: 9000\n: connected\n', true],
    [':\n', true],
    ['id: 1\ndata: {}\n\n', true]
  ] as const) {
    const parser = new EventParser()
    parser.push(text)
    t.equal(parser.isOpen, isOpen, JSON.stringify(text))
  }
})

t.test('an event of 20 MB in many parts takes time in proportion to its size', async (t) => {
  const size = 20_000_000
  const part = 'x'.repeat(16_384)
  const parser = new EventParser()
  const before = process.cpuUsage()
  parser.push('data: {"type":"message_updated","text":"')
  for (let sent = 0; sent < size; sent += part.length) assert.deepEqual(parser.push(part), [])
  const [event] = parser.push('"}\n\n')
  t.ok(JSON.stringify(event).length > size)
  // Looking through all of it for each part would be 12 GB.
  const { user } = process.cpuUsage(before)
  t.ok(user < 3_000_000, `${Math.round(user / 1000)} ms of the processor`)
})
