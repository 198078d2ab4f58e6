import { setImmediate as immediate } from 'node:timers/promises'
import fc from 'fast-check'
import t from 'tap'
import type { Broadcast } from '../../src/chat/event-stream.ts'
import { LiveStreams } from '../../src/chat/live-streams.ts'
import { waitUntil } from '../helpers/raw.ts'

const MANY = 60

/** A stream to which writing takes a millisecond, so that the service cannot write to many at a time. */
class SlowStream {
  got = ''
  /** In which turn of the event loop it was written to. */
  turns: number[] = []
  keepsUp = true

  write({ plain, chunk }: Broadcast): boolean {
    for (const until = performance.now() + 1; performance.now() < until;);
    const size = `${plain.length.toString(16)}\r\n`
    if (`${chunk}` !== `${size}${plain}\r\n`) throw new Error(`not a chunk: ${chunk}`)
    this.got += `${plain}`
    this.turns.push(turn)
    return this.keepsUp
  }
}

let turn = 0
const countTurns = () => {
  turn++
  setImmediate(countTurns).unref()
}
countTurns()

t.test('while many streams are written to, everything else gets a turn', async (t) => {
  const warnings: Error[] = []
  const onWarning = (warning: Error) => warnings.push(warning)
  process.on('warning', onWarning)
  t.teardown(() => process.off('warning', onWarning))
  const live = new LiveStreams<SlowStream>(() => {})
  const streams = Array.from({ length: MANY }, () => new SlowStream())
  for (const stream of streams) live.add(stream)
  live.send([Buffer.from('a')])
  t.ok(streams[0]!.got, 'the first gets it at once')
  t.notOk(streams.at(-1)!.got, 'the last one later')
  const joined = new SlowStream()
  live.add(joined)
  live.send([Buffer.from('b'), Buffer.from('c')])
  await waitUntil('all have got everything', () => streams.every(({ got }) => got === 'abc'))
  t.equal(joined.got, 'bc', 'one that joins meanwhile gets what is new')
  t.strictSame(streams.at(-1)!.turns.length, 1, 'what comes during a round is sent with the rest')

  // 10 of them in 10 ms. The first slice and the second may be in the same turn, if that was nearly over.
  const turns = new Set(streams.flatMap(({ turns }) => turns))
  t.ok(turns.size >= MANY / 10 - 1, `${turns.size} turns of the event loop`)
  live.close()
  t.strictSame(warnings, [], 'Node writes nothing to standard error')
})

t.test('whatever happens, each stream gets everything while it is live, once and in order', async () => {
  const many = fc.integer({ min: 1, max: 40 })
  const step = fc.oneof(
    fc.record({ what: fc.constant('send' as const), many: fc.integer({ min: 1, max: 3 }) }),
    fc.record({ what: fc.constant('add' as const), many }),
    fc.record({ what: fc.constantFrom('delete', 'fall behind'), many: fc.nat(50) }),
    fc.record({ what: fc.constant('wait' as const), many: fc.integer({ min: 1, max: 20 }) })
  )
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 25 }), async (steps) => {
      const expected = new Map<SlowStream, string>()
      const gone = new Map<SlowStream, string>()
      const slow: SlowStream[] = []
      const live = new LiveStreams<SlowStream>((stream) => {
        slow.push(stream)
        gone.set(stream, expected.get(stream)!)
        expected.delete(stream)
      })
      let frames = 0
      for (const { what, many } of steps) {
        if (what === 'send') {
          const added = Array.from({ length: many }, () => `${frames++} `)
          for (const [stream, all] of expected) expected.set(stream, all + added.join(''))
          live.send(added.map((text) => Buffer.from(text)))
        } else if (what === 'add') {
          for (let n = 0; n < many; n++) {
            const stream = new SlowStream()
            expected.set(stream, '')
            live.add(stream)
          }
        } else if (what === 'wait') {
          for (let n = 0; n < many; n++) await immediate()
        } else {
          const stream = [...expected.keys()][many]
          if (stream && what === 'fall behind') stream.keepsUp = false
          if (stream && what === 'delete') {
            live.delete(stream)
            if (!expected.get(stream)!.startsWith(stream.got)) return false
            expected.delete(stream)
            gone.set(stream, stream.got)
          }
        }
      }
      live.close()
      live.send([Buffer.from('after the end')])
      await immediate()
      const all = [...expected, ...gone]
      return all.every(([{ got }, text]) => got === text) && slow.every(({ keepsUp }) => !keepsUp)
    }),
    { numRuns: 30 }
  )
})
