import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import { toReplied } from '../../src/chat/messages.ts'
import { beginningOf, excerptOf, nextStep, shownOf } from '../../web/text.js'

t.test('an excerpt is at most as long as asked, and cuts no character in two', async (t) => {
  const characters = fc.constantFrom('a', '\n', '👍', 'é', '漢')
  const text = fc.array(characters, { maxLength: 60 }).map((all) => all.join(''))
  const limit = (max: number) => fc.integer({ min: 1, max })
  fc.assert(
    fc.property(text, limit(30), limit(4), (text, characters, lines) => {
      const beginning = beginningOf(text, characters, lines)
      assert.ok(text.startsWith(beginning))
      assert.ok(beginning.length <= characters)
      assert.ok(beginning.split('\n').length <= lines)
      assert.ok(!/[\ud800-\udbff]$/.test(beginning))
    }),
    { numRuns: 1000 }
  )
  t.equal(beginningOf('one\ntwo\nthree', 100, 2), 'one\ntwo')
  t.equal(beginningOf('one\ntwo\nthree', 100), 'one\ntwo\nthree')
  t.equal(beginningOf('👍👍', 3), '👍')
})

t.test('a text that the service accepts is shown as a whole, unless it has many lines', async (t) => {
  for (const text of ['x'.repeat(2000), '👍'.repeat(2000), 'a\n'.repeat(59)]) t.equal(shownOf(text), text)
  t.equal(shownOf('\n'.repeat(1998)).length, 59)
})

t.test('of a longer text, more and more is shown', async (t) => {
  const long = 'x'.repeat(1_000_000)
  t.equal(shownOf(long).length, 4000)
  let steps = 1
  for (let asked = nextStep(); shownOf(long, asked).length < long.length; asked = nextStep(asked)) steps++
  t.ok(steps < 8, `and all of a megabyte after ${steps} steps`)
})

t.test('a reply shows the beginning of a text as the service cuts it', async (t) => {
  for (const text of ['short', 'x'.repeat(100), '👍'.repeat(100)]) t.equal(excerptOf(text), text)
  for (const text of ['x'.repeat(101), '👍'.repeat(101), `x${'👍'.repeat(2000)}`]) {
    const { text: expected } = toReplied(1, 1, 'alice', text)
    t.equal(excerptOf(text), expected)
  }
})
