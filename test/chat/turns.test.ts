import { mock } from 'node:test'
import t, { type Test } from 'tap'
import { Turns } from '../../src/chat/turns.ts'

/** Turns on a clock that only moves when the test says so. */
function setUp(t: Test) {
  let now = 1000
  t.intercept(performance, 'now', { value: () => now })
  mock.timers.enable({ apis: ['setTimeout'] })
  t.teardown(() => mock.timers.reset())
  const turns = new Turns()
  return {
    turns,
    pass: (ms: number) => {
      now += ms
      mock.timers.tick(ms)
    },
    /** Asks for the next turn. @returns a function that tells whether it has come */
    ask: () => {
      let isTurn = false
      const waiting = turns.next().then(() => {
        isTurn = true
      })
      return async () => {
        await Promise.race([waiting, new Promise(setImmediate)])
        return isTurn
      }
    },
    hear: (...replicas: string[]) => {
      for (const replica of replicas) turns.heard(replica)
    }
  }
}

t.test('a replica that writes alone, or with a single other one, never waits', async (t) => {
  const { turns, ask, hear } = setUp(t)
  t.ok(await ask()(), 'the first batch')
  turns.ended(20)
  t.ok(await ask()(), 'the second')
  for (let i = 0; i < 3; i++) {
    hear('b')
    turns.ended(20)
    t.ok(await ask()(), 'after the other one')
  }
})

t.test('after its turn, a replica waits for all others but one', async (t) => {
  const { turns, ask, hear } = setUp(t)
  hear('b', 'c', 'd')
  turns.ended(20)
  const isTurn = ask()
  t.notOk(await isTurn(), 'the others may be writing')
  hear('b')
  hear('b')
  t.notOk(await isTurn(), 'one of them has written twice')
  hear('d')
  t.ok(await isTurn(), 'a second one has written')

  turns.ended(20)
  hear('c', 'b')
  t.ok(await ask()(), 'they have written before it asks')
})

t.test('it waits for as long as the batches of the others may take', async (t) => {
  for (const [batchMs, longestMs] of [
    [2, 6],
    [10, 30],
    [1000, 50]
  ] as const) {
    await t.test(`where a batch takes ${batchMs} ms, at most ${longestMs} ms`, async (t) => {
      const { turns, ask, hear, pass } = setUp(t)
      hear('b', 'c', 'd')
      turns.ended(batchMs)
      pass(1)
      const isTurn = ask()
      pass(longestMs - 2)
      t.notOk(await isTurn())
      pass(1)
      t.ok(await isTurn(), 'counted from its own batch on')
    })
  }
})

t.test('it does not wait if it has not written for a while', async (t) => {
  const { turns, ask, hear, pass } = setUp(t)
  hear('b', 'c', 'd')
  turns.ended(5)
  pass(15)
  t.ok(await ask()())
})

t.test('replicas that no longer write are forgotten', async (t) => {
  const { turns, ask, hear } = setUp(t)
  hear('b', 'c', 'd')
  turns.ended(20)
  hear('b')
  turns.ended(20)
  t.ok(await ask()(), 'only one other has written since the last batch but one')
})
