import t from 'tap'
import { Tail } from '../../src/chat/tail.ts'

t.test('pages equal those of a plain list of the same messages, after any changes', async (t) => {
  // The same numbers each time (a linear congruential generator), so that a failure can be repeated.
  let seed = 7
  const random = (below: number) => {
    seed = (seed * 1103515245 + 12345) % 2 ** 31
    return Math.floor((seed / 2 ** 31) * below)
  }
  const tail = new Tail()
  const model = new Map<number, string>()
  const list = () => [...model].sort(([a], [b]) => a - b)
  for (let step = 0; step < 3000; step++) {
    const id = random(300)
    const kind = random(10)
    if (kind < 6) {
      const text = 'я😀"\\\n'.repeat(random(40))
      tail.put(id, JSON.stringify({ id, text }))
      model.set(id, JSON.stringify({ id, text }))
    } else if (kind < 9) {
      tail.remove(id)
      model.delete(id)
    } else if (random(20) === 0) {
      const count = random(200)
      const bytes = random(2) === 0 ? Infinity : random(60_000)
      tail.trim(count, bytes)
      for (const [old] of list().slice(0, Math.max(0, model.size - count))) model.delete(old)
      // Each has a comma before it.
      const size = () => list().reduce((sum, [, json]) => sum + Buffer.byteLength(json) + 1, 0)
      for (const [old] of list()) if (model.size > 1 && size() > bytes) model.delete(old)
    }
    if (step % 10 > 0) continue
    const all = list()
    const from = random(all.length + 1)
    const to = random(all.length + 1)
    if (
      `${tail.page(from, to)}` !==
      `[${all
        .slice(from, to)
        .map(([, json]) => json)
        .join(',')}]`
    ) {
      throw new Error(`a wrong page at step ${step}`)
    }
    if (tail.indexAfter(id) !== all.filter(([other]) => other <= id).length) {
      throw new Error(`a wrong index at step ${step}`)
    }
  }
  t.strictSame(
    tail.ids,
    list().map(([id]) => id)
  )
  t.strictSame(
    JSON.parse(`${tail.page(0, model.size)}`),
    list().map(([, json]) => JSON.parse(json))
  )
})
