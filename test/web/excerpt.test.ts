import t from 'tap'
import { excerpt } from '../../web/panels/excerpt.js'

const matches = (text: string, query: string) => excerpt(text, query).filter((_, i) => i % 2 === 1)

t.test('an excerpt marks the words that were searched for, with other endings too', async (t) => {
  t.strictSame(matches('Released today: the release notes', 'release'), ['Released', 'release'])
  t.strictSame(matches('Сообщения и сообщение', 'сообщения'), ['Сообщения', 'сообщение'])
  t.strictSame(matches('a "quoted phrase" here', '"quoted phrase"'), ['quoted', 'phrase'])
  t.strictSame(matches('no match', 'zebra'), [])
  t.strictSame(matches('prerelease', 'release'), [], 'not within a word')
  t.strictSame(excerpt('plain', '!?'), ['plain'])
})

t.test('an excerpt is around the first match, and nothing in it is cut in two', async (t) => {
  const long = `${'word '.repeat(100)}needle${' word'.repeat(100)}`
  const shown = excerpt(long, 'needle')
  t.match(shown[0], /^…word /)
  t.equal(shown[1], 'needle')
  t.match(shown.at(-1), /…$/)
  t.ok(shown.join('').length < 300)
  t.notMatch(excerpt('👍'.repeat(1000), 'zebra').join(''), /[\ud800-\udbff]…/)
})
