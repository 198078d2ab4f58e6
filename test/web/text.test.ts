import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import { beginningOf, nextStep, shownOf, splitAtLinks } from '../../web/text.js'

t.test('the beginning of a text is at most so long, and nothing in it is cut in two', async (t) => {
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

t.test('addresses are found, and none is one that goes on beyond the cut', async (t) => {
  const links = (text: string, isCut = false) => splitAtLinks(text, isCut).filter((_, i) => i % 2 === 1)
  const two = ['https://example.com/a?b=1', 'HTTP://EXAMPLE.COM']
  t.strictSame(links('see https://example.com/a?b=1, or HTTP://EXAMPLE.COM.'), two)
  t.strictSame(links('https://a.example https://b.example/pa', true), ['https://a.example'])
  t.strictSame(links('https://b.example/pa', true), [])
  t.strictSame(links('https://b.example/page.', true), [], 'because what follows the full stop is not known')
  const pieces = fc.constantFrom('a', ' ', '\n', '"', '.', '👍', 'http://', 'https://b.example/')
  const text = fc.array(pieces).map((all) => all.join(''))
  fc.assert(
    fc.property(text, fc.boolean(), (text, isCut) => {
      const linked = `${text} https://a.example ${text}`
      assert.equal(splitAtLinks(text, isCut).join(''), text)
      assert.equal(splitAtLinks(linked, isCut).join(''), linked)
    }),
    { numRuns: 1000 }
  )
  const long = [
    'http://'.repeat(30_000),
    `http://${'.'.repeat(200_000)}`,
    'x'.repeat(200_000),
    'https'.repeat(40_000)
  ]
  const started = performance.now()
  for (const text of long) splitAtLinks(text, true)
  t.ok(performance.now() - started < 1000, 'in time that is linear')
})
