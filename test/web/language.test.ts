import { readdirSync, readFileSync } from 'node:fs'
import t from 'tap'
import * as errors from '../../src/errors/catalogue.ts'
import { asSentence, chooseLanguage, fill, timeUntil, valuesIn } from '../../web/language.js'
import type { Words } from '../../web/i18n.js'

const folder = new URL('../../web/', import.meta.url)
const html = readFileSync(new URL('index.html', folder), 'utf8')
const tags = readdirSync(new URL('i18n', folder)).map((file) => file.replace('.js', ''))
const load = async (tag: string) => {
  const module: { default: Words } = await import(new URL(`i18n/${tag}.js`, folder).href)
  return module.default
}
const english = await load('en')
/** The names in braces, and whether they may be left out. */
const values = (text: string) => [...(text.match(/\{\w+\}/g) ?? [])].sort()

// test/errors/catalogue.test.ts holds this page to the catalogue and to the schemas.
const api = readFileSync(new URL('../../docs/api.md', import.meta.url), 'utf8')
const codes = Array.from(api.matchAll(/^\| \d{3} \| `(\w+)` \|/gm), ([, code]) => code!)

t.test('each error of the service has a text in each language, and there is no other', async (t) => {
  t.ok(codes.length > 80)
  for (const tag of tags) {
    const texts = (await load(tag)).errors
    t.strictSame(Object.keys(texts).sort(), codes.toSorted(), tag)
    for (const [code, text] of Object.entries(texts)) {
      t.match(text, /^\S.*[.!?\]]$/, `${tag}: ${code} is a sentence`)
      t.strictSame(values(text), values(english.errors[code as keyof Words['errors']]), `${tag}: ${code}`)
    }
  }
})

t.test('all languages have the same texts, and the page offers each of them', async (t) => {
  const offered = Array.from(html.matchAll(/<option value="(\S+)"/g), ([, tag]) => tag!)
  t.strictSame(offered.sort(), tags.toSorted())
  for (const tag of tags) {
    const { texts, counts, dir } = await load(tag)
    t.strictSame(Object.keys(texts).sort(), Object.keys(english.texts).sort(), tag)
    for (const [key, text] of Object.entries(texts)) {
      t.ok(text.trim(), `${tag}: ${key}`)
      t.strictSame(values(text), values(english.texts[key as keyof Words['texts']]), `${tag}: ${key}`)
    }
    t.strictSame(Object.keys(counts).sort(), Object.keys(english.counts).sort(), tag)
    const { pluralCategories } = new Intl.PluralRules(tag).resolvedOptions()
    for (const forms of Object.values(counts)) {
      t.strictSame(Object.keys(forms).sort(), pluralCategories.toSorted(), `${tag}: the forms of its plural`)
      for (const form of Object.values(forms)) t.match(form, '{count}')
    }
    t.match(dir, /^(ltr|rtl)$/)
  }
})

t.test('the static page has the same English texts as the script', async (t) => {
  const said = Array.from(
    html.matchAll(/data-say="(\w+)"[^>]*>([^<]+)</g),
    ([, key = '', text = '']): [string, string] => [key, text.trim()]
  )
  t.ok(said.length > 20)
  for (const [key, text] of said) {
    if (key === 'connecting') continue // It explains there what an old browser is missing.
    t.equal(text, english.texts[key as keyof Words['texts']], key)
  }
})

t.test('values are filled in, and parts with an unknown value are left out', async (t) => {
  t.equal(fill('You are muted[ until {until}].', { until: '5 May' }), 'You are muted until 5 May.')
  t.equal(fill('You are muted[ until {until}].'), 'You are muted.')
  t.equal(fill('{a} and {b}[ and {c}]', { a: 1, b: '{a}', c: '' }), '1 and {a}')
  t.equal(fill('{a}', { a: '$& [x]' }), '$& [x]', 'whatever they are')
})

t.test('a value that is written right to left does not change the order of the sentence', async (t) => {
  const isolated = '\u2068משה\u2069'
  t.equal(fill('{a} muted {b}', { a: 'משה', b: 'bob' }), `${isolated} muted bob`)
  t.equal(fill('{a}', { a: 'a\u202eb' }), '\u2068a\u202eb\u2069', 'nor does one with an override')
  t.equal(fill('{a}', { a: 'Ёлка 42, 北京 😀 (c)' }), 'Ёлка 42, 北京 😀 (c)')
})

t.test('values in a sentence of the service are found', async (t) => {
  const until = new Date('2026-01-31T12:00:00Z')
  t.strictSame(valuesIn(new errors.Muted(until).message), { time: until })
  t.strictSame(valuesIn(new errors.Banned(until).message), { time: until })
  t.strictSame(valuesIn(new errors.Banned().message), {})
  t.strictSame(valuesIn('password must have at least 12 characters'), { number: 12 })
  t.strictSame(valuesIn('you are muted until 2026-99-99T99:00:00Z').time, undefined)
})

t.test("the page uses the first of the reader's languages that it has", async (t) => {
  const offered = ['en', 'pt-BR', 'ru']
  t.equal(chooseLanguage([undefined, 'ru-RU', 'en'], offered), 'ru')
  t.equal(chooseLanguage(['de-AT', 'en-GB'], offered), 'en')
  t.equal(chooseLanguage(['pt-BR'], offered), 'pt-BR')
  t.equal(chooseLanguage(['tlh', '../main'], offered), 'en')
})

t.test('waiting times are shown in natural units', async (t) => {
  t.equal(timeUntil('en', 1), 'in 1 second')
  t.equal(timeUntil('en', 600), 'in 10 minutes')
  t.equal(timeUntil('en', 21_600), 'in 6 hours')
  t.equal(timeUntil('ru', 1), 'через 1 секунду')
  t.equal(asSentence('nobody knows this error'), 'Nobody knows this error.')
  t.equal(asSentence(''), '')
})
