import t from 'tap'
import { Busy, ClientGone } from '../../src/errors/catalogue.ts'
import { FairQueue } from '../../src/lib/fair-queue.ts'

const forever = new AbortController().signal

/** A queue whose tasks end when the test says so, in a list of those that have started. */
function setUp(concurrency: number, maxWaiting: number) {
  const queue = new FairQueue({ concurrency, maxWaiting })
  const started: string[] = []
  const endings = new Map<string, () => void>()
  const add = (name: string, signal: AbortSignal = forever) => {
    const result = queue.run(name.charAt(0), signal, () => {
      started.push(name)
      return new Promise<string>((resolve) => endings.set(name, () => resolve(name)))
    })
    result.catch(() => {})
    return result
  }
  const end = async (name: string) => {
    endings.get(name)!()
    await new Promise(setImmediate)
  }
  return { queue, started, add, end }
}

t.test('keys take turns, however many tasks each of them has', async (t) => {
  const { queue, started, add, end } = setUp(1, 10)
  for (const name of ['a1', 'a2', 'a3', 'b1', 'b2', 'c1']) add(name)
  t.strictSame([queue.running, queue.waiting], [1, 5])
  for (let i = 0; i < 6; i++) await end(started.at(-1)!)
  t.strictSame(started, ['a1', 'a2', 'b1', 'c1', 'a3', 'b2'])
  t.strictSame([queue.running, queue.waiting], [0, 0])
})

t.test('several tasks run at a time', async (t) => {
  const { queue, started, add, end } = setUp(2, 10)
  for (const name of ['a1', 'a2', 'a3']) add(name)
  t.strictSame(started, ['a1', 'a2'])
  await end('a2')
  t.strictSame(started, ['a1', 'a2', 'a3'])
  t.equal(queue.running, 2)
})

t.test('a full queue refuses the newest task of the key with the most tasks', async (t) => {
  const { started, add, end } = setUp(1, 3)
  add('a0')
  const greedy = [add('a1'), add('a2'), add('a3')]
  await t.rejects(add('a4'), Busy)
  add('b1')
  await t.rejects(greedy[2]!, Busy, 'a3 makes room for b1')
  await t.rejects(add('b2'), Busy, 'as many as the other has by now')
  for (let i = 0; i < 4; i++) await end(started.at(-1)!)
  t.strictSame(started, ['a0', 'a1', 'b1', 'a2'])
})

t.test('a task leaves the queue when its signal aborts; after a failed one the next starts', async (t) => {
  const { queue, started, add, end } = setUp(1, 3)
  const controller = new AbortController()
  add('a0')
  const gone = add('b1', controller.signal)
  add('c1')
  controller.abort()
  await t.rejects(gone, ClientGone)
  await t.rejects(add('d1', AbortSignal.abort()), ClientGone)
  await end('a0')
  t.strictSame(started, ['a0', 'c1'])
  await end('c1')
  await t.rejects(
    queue.run('e', forever, async () => {
      throw new Error('failed')
    }),
    /failed/
  )
  t.strictSame([queue.running, queue.waiting], [0, 0])
})
