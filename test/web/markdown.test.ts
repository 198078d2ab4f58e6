import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import { isMentioned, parse, type Part, shownAddress } from '../../web/markdown.js'
import { namesFor, typedName } from '../../web/names.js'

/** Parts as a person would write them down: `strong(bold)`, and text as it is. */
const written = (parts: Part[]): string =>
  parts
    .map((part) => {
      if (part.type === 'text') return part.text
      if ('parts' in part) return `${part.type}(${written(part.parts)})`
      return `${part.type}(${part.text})`
    })
    .join('')
const read = (text: string, options = {}) => written(parse(text, options))

t.test('code, bold and italic, within each other, and nothing that only looks like it', async (t) => {
  const cases = {
    'plain text': 'plain text',
    'a **bold** and an *italic* or _italic_ word': 'a strong(bold) and an em(italic) or em(italic) word',
    '**bold with _italic_ in it**, and (*so*).': 'strong(bold with em(italic) in it), and (em(so)).',
    '**bold with *stars* in it**': 'strong(bold with em(stars) in it)',
    'say `npm ci` or `a * b * c`': 'say code(npm ci) or code(a * b * c)',
    '这是**重点**内容': '这是strong(重点)内容',
    '2 * 3 * 4, 2*3*4, 2**3 and 2**4': '2 * 3 * 4, 2*3*4, 2**3 and 2**4',
    'snake_case_name and __init__': 'snake_case_name and __init__',
    '¯\\_(ツ)_/¯': '¯\\_(ツ)_/¯',
    '\\*not italic*': '\\*not italic*',
    '* one\n* two': '* one\n* two',
    '*over\ntwo lines*': '*over\ntwo lines*',
    '** spaced ** and `` and ****': '** spaced ** and `` and ****',
    'one `tick and **two stars': 'one `tick and **two stars',
    '<b>&lt;</b>': '<b>&lt;</b>'
  }
  for (const [text, expected] of Object.entries(cases)) t.equal(read(text), expected, text)
})

t.test('a block of code is everything between its fences', async (t) => {
  t.equal(read('look:\n```sh\nnpm ci\n  # **not bold**\n```\nok?'), 'look:block(npm ci\n  # **not bold**)ok?')
  t.equal(read('```\none\n```'), 'block(one)')
  t.equal(read('```one line```'), 'block(one line)')
  t.equal(read('```\na\n\nb\n```\n```\nc\n```'), 'block(a\n\nb)block(c)')
  t.equal(read('```\nnot closed'), '```\nnot closed')
  t.equal(read('```\nnot closed', { isCut: true }), 'block(\nnot closed)', 'its end is yet to come')
})

t.test('addresses are found, without the punctuation around them', async (t) => {
  const links = (text: string, isCut = false) =>
    parse(text, { isCut }).flatMap((part) => (part.type === 'link' ? [[part.text, part.href]] : []))
  const same = (address: string) => [address, address]
  const wiki = 'https://en.wikipedia.org/wiki/Queue_(data_structure)'
  t.strictSame(links('see https://example.com/a?b=1, or HTTP://EXAMPLE.COM.'), [
    same('https://example.com/a?b=1'),
    same('HTTP://EXAMPLE.COM')
  ])
  t.strictSame(
    links(`${wiki} (${wiki}), [${wiki}], (see ${wiki}!)`),
    [1, 2, 3, 4].map(() => same(wiki))
  )
  t.strictSame(links('**https://example.com/x_y_z**, www.example.com/a and awww.example.com'), [
    ['www.example.com/a', 'https://www.example.com/a']
  ])
  t.equal(read('*https://example.com*'), 'em(link(https://example.com))')
  for (const text of [
    'www.',
    'http://',
    'https://.',
    'http://)',
    'ftp://example.com',
    'javascript:alert(1)'
  ]) {
    t.strictSame(links(text), [], text)
  }
  t.strictSame(links('http://localhost:8080/x'), [same('http://localhost:8080/x')])
  t.strictSame(links('https://a.example https://b.example/pa', true), [same('https://a.example')])
  t.strictSame(links('https://b.example/page.', true), [], 'what follows the full stop is not known')
})

t.test('my name is found where it is mentioned', async (t) => {
  const name = (text: string, nickname = 'Ada') => read(text, { nickname })
  t.equal(name('@ada, and @Ada: hello'), 'mention(@ada), and mention(@Ada): hello')
  t.equal(name('**@Ada**'), 'strong(mention(@Ada))')
  for (const text of ['@adam', 'x@ada', '@ada-l', 'ada', '`@ada`']) t.notMatch(name(text), 'mention', text)
  t.equal(name('hi @a.b (c) [x]', 'a.b (c) [x]'), 'hi mention(@a.b (c) [x])')
  t.equal(name('@_ada_ hello', '_ada_'), 'mention(@_ada_) hello')
  t.equal(name('@Маша, привет', 'маша'), 'mention(@Маша), привет')
  t.equal(isMentioned('hello @ADA', 'ada'), true)
  t.equal(isMentioned('hello @adam', 'ada'), false)
})

t.test('whatever is written, nothing of it is lost but the marks, in time that is linear', async (t) => {
  const pieces = fc.constantFrom(
    'a',
    ' ',
    '\n',
    '*',
    '**',
    '_',
    '`',
    '```',
    '\\',
    '(',
    ')',
    '.',
    '@ada',
    '👍',
    'https://b.example/',
    'www.'
  )
  fc.assert(
    fc.property(fc.array(pieces, { maxLength: 40 }), fc.boolean(), (all, isCut) => {
      const text = all.join('')
      const flat = (parts: Part[]): string =>
        parts.map((part) => ('parts' in part ? flat(part.parts) : part.text)).join('')
      const letters = (text: string) => text.replace(/[*_`\n]/g, '')
      const shown = letters(flat(parse(text, { isCut, nickname: 'ada' })))
      // The first line of a block may be the name of its language.
      if (!text.includes('```')) assert.equal(shown, letters(text))
    }),
    { numRuns: 2000 }
  )
  const long = [
    'http://',
    `http://${'.'.repeat(50)}`,
    '**a ',
    '*a ',
    '_a ',
    '`',
    '``` ',
    '```a\n',
    '**a*',
    '@ad',
    '(',
    'www.',
    '*',
    '**',
    ' **',
    'a** ',
    '\\`'
  ]
  const started = performance.now()
  for (const text of long) parse(text.repeat(100_000 / text.length), { isCut: true, nickname: 'ada' })
  for (const text of ['x', '.', ')', '`', '*']) parse(`http://a${text.repeat(100_000)}`)
  t.ok(performance.now() - started < 5000)
})

t.test('names are completed by whoever was seen last', async (t) => {
  t.equal(typedName('hello @Ad'), 'Ad')
  t.equal(typedName('@'), '')
  t.equal(typedName('@Ada Lo'), 'Ada Lo')
  for (const text of ['hello', 'mail@example', '@ada\n']) t.equal(typedName(text), undefined, text)
  const names = ['Grace Hopper', 'ada', 'Adam', 'Маша']
  t.strictSame(namesFor('AD', names), ['ada', 'Adam'])
  t.strictSame(namesFor('hop', names), ['Grace Hopper'])
  t.strictSame(namesFor('', names), names)
  t.strictSame(namesFor('ма', names), ['Маша'])
  t.strictSame(namesFor('x', names), [])
})

t.test('a link with other letters is a link, however often links are read', async (t) => {
  // Once V8 has optimised it, `URL.canParse` of Node.js 20 refuses those of Latin-1.
  for (let n = 0; n < 20_000; n++) parse(`https://example.com/${n}`)
  for (const text of ['https://bücher.example/', 'https://example.com/ü', 'https://пример.рф/']) {
    t.equal(read(text), `link(${text})`)
  }
})

t.test('a link shows where it leads, whatever it looks like', async (t) => {
  const shown = (text: string) =>
    parse(text).flatMap((part) => (part.type === 'link' ? shownAddress(part) : []))
  for (const [text, expected] of Object.entries({
    'http://аррӏе.com/login': 'http://xn--80ak6aa92e.com/login',
    'www.аррӏе.com/login': 'www.xn--80ak6aa92e.com/login',
    'https://google.com@evil.example/a?b#c': 'https://evil.example/a?b#c',
    'https://evil.example.google.com@evil.example': 'https://evil.example',
    'https://google.com\\@evil.example/': 'https://google.com\\@evil.example/',
    'https://g\u00adoogle.com/': 'https://google.com/',
    'https://google.com\uff0eevil.example/': 'https://google.com.evil.example/',
    'http://0x7f.1/x': 'http://127.0.0.1/x',
    'https://evil.example/\u202egpj.exe': 'https://evil.example/%E2%80%AEgpj.exe',
    'https://evil.example/\u2067a\u2069': 'https://evil.example/%E2%81%A7a%E2%81%A9'
  })) {
    t.strictSame(shown(text), [expected], text)
  }
  for (const text of [
    'HTTP://EXAMPLE.COM/Ä',
    'http://localhost:8080/x',
    'www.example.com?a',
    'http://[::1]/'
  ]) {
    t.strictSame(shown(text), [text], 'as it was typed')
  }
  t.equal(
    read('(https://google.com@evil.example), and on'),
    '(link(https://google.com@evil.example)), and on'
  )
})
