import t from 'tap'
import { RecentEvents } from '../../src/chat/recent-events.ts'

t.test('the newest events are in memory, in order, and can be read in parts of any size', async (t) => {
  const recent = new RecentEvents()
  recent.clear(10)
  for (const seq of [11, 13, 14, 17]) recent.push(seq, Buffer.from(`event ${seq}`))
  t.strictSame(
    [9, 10, 12, 17].map((seq) => recent.reachBackTo(seq)),
    [false, true, true, true]
  )
  const after = (seq: number, bytes: number) => {
    const { frames, seq: last } = recent.after(seq, bytes)
    return [frames.join(), last]
  }
  t.strictSame(after(10, 1000), ['event 11,event 13,event 14,event 17', 17])
  t.strictSame(after(12, 16), ['event 13,event 14', 14])
  t.strictSame(after(12, 1), ['event 13', 13], 'one in any case')
  t.strictSame(after(17, 1000), ['', 17])
})

t.test('the memory is bounded in number and in bytes', async (t) => {
  for (const [size, count] of [
    [10, 5000],
    [1024 * 1024, 100],
    [40 * 1024 * 1024, 3]
  ] as const) {
    const recent = new RecentEvents()
    for (let seq = 1; seq <= count; seq++) recent.push(seq, Buffer.alloc(size))
    let oldest = 0
    while (!recent.reachBackTo(oldest)) oldest++
    const { frames, seq } = recent.after(oldest, Infinity)
    t.equal(seq, frames.length === 0 ? oldest : count)
    t.equal(frames.length, count - oldest, 'without a gap')
    t.ok(
      frames.length <= 1250 && frames.length * size <= 20 * 1024 * 1024,
      `${frames.length} of ${size} bytes`
    )
  }
})
