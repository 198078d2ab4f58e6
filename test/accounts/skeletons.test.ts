import fc from 'fast-check'
import t from 'tap'
import { CONFUSABLES } from '../../src/accounts/confusables.ts'
import { skeleton, skeletonDigests } from '../../src/accounts/skeletons.ts'
import { printable } from '../helpers/printable.ts'

const digests = (nickname: string) => skeletonDigests(nickname).map((digest) => digest.toString('hex'))
const areSimilar = (one: string, other: string) =>
  digests(one).some((digest) => digests(other).includes(digest))

t.test('skeletons are those of ICU 78', (t) => {
  for (const [text, expected] of [
    ['admin', 'adrnin'],
    ['аdmin', 'adrnin'],
    ['paypaI', 'paypal'],
    ['0O1lI|', 'OOllll'],
    ['ρ⍺у𝓅𝒂ן', 'paypal'],
    ['Ӏ', 'l'],
    ['ӏ', 'l'],
    ['ï', 'i\u0308'],
    ['½', '½'],
    ['ß', 'ß'],
    ['日本', '日本'],
    ['ਇ', '\u092a\u094d\u091f\u09bf'],
    ['a\u00a0\u2003b', 'a  b'],
    ['ad\u00admi\u200bn\ufe0f\u034f\u3164\u{e0100}', 'adrnin'],
    ['ａｄｍｉｎ', 'aｄｍiｎ']
  ] as const) {
    t.equal(skeleton(text), expected, printable(text))
  }
  t.equal(CONFUSABLES.match(/ [0-9a-f]+/g)?.length, 5499, 'the whole table of Unicode 17')
  t.end()
})

t.test('which nicknames are too similar', (t) => {
  for (const [one, other] of [
    ['admin', 'Admin'],
    ['admin', 'ADMIN'],
    ['admin', 'аdmin'],
    ['admin', 'ａｄｍｉｎ'],
    ['admin', 'ＡＤＭＩＮ'],
    ['admin', 'adrnin'],
    ['admin', '𝐚𝐝𝐦𝐢𝐧'],
    ['admin', 'ⓐⓓⓜⓘⓝ'],
    ['admin', 'АDМІN'],
    ['admin', 'ΑDΜΙΝ'],
    ['paypal', 'PayPaI'],
    ['paypal', 'paypa1'],
    ['PayPal', 'PAYPAL'],
    ['b0b', 'bOb'],
    ['b0b', 'bob'],
    ['user 1', 'user l'],
    ['Мария', 'мария'],
    ['Мария', 'MAPИЯ'],
    ['straße', 'STRASSE'],
    ['ΣΑΣ', 'σας'],
    ['Zoë', 'ZOË'],
    ['İ', 'i̇'],
    ['ﬁsh', 'fish'],
    ['x\u0335', 'x\u0336'],
    ['John Smith', 'john\u00a0smith'],
    ['John Smith', 'john  smith'],
    ['admin\ufe0f', 'admin'],
    [' spaced ', 'spaced']
  ] as const) {
    t.ok(areSimilar(one, other), printable([one, other]))
  }
  for (const [one, other] of [
    ['alice', 'alicia'],
    ['alien', 'allen'],
    ['Lila', 'Ilia'],
    ['Nina', 'Vina'],
    ['Zoë', 'Zoe'],
    ['bob', 'rob'],
    ['user 1', 'user 2'],
    ['user 10', 'user 100'],
    ['a', 'aa'],
    ['日本', '日木'],
    ['👍🏽', '👍🏿'],
    ['🇩🇪', '🇫🇷'],
    ['אבג', 'אבד'],
    ['محمد', 'محمود'],
    ['สมชาย', 'สมหญิง']
  ] as const) {
    t.notOk(areSimilar(one, other), printable([one, other]))
  }
  t.end()
})

t.test('a nickname is too similar to itself in other letters that look the same, in any case', (t) => {
  const toText = (points: string) =>
    String.fromCodePoint(...points.split('+').map((hex) => parseInt(hex, 16)))
  const lookAlikes = new Map<string, string[]>()
  for (const line of CONFUSABLES.replaceAll('\n ', ' ').trim().split('\n')) {
    const [prototype = '', ...sources] = line.split(/:? /).map(toText)
    lookAlikes.set(prototype, sources)
  }
  const isCapital = (letter: string) => letter !== letter.toLowerCase()
  /** Texts of these letters, each with one that differs from it by letters that look the same. */
  const disguised = (letters: string, isPossible: (letter: string) => boolean) => {
    const letter = fc.constantFrom(...letters).chain((plain) => {
      const others = lookAlikes.get(plain === 'I' ? 'l' : plain) ?? []
      return fc.tuple(fc.constant(plain), fc.constantFrom(plain, ...others.filter(isPossible)))
    })
    return fc
      .array(letter, { minLength: 1, maxLength: 20 })
      .map(
        (pairs) => [pairs.map(([plain]) => plain).join(''), pairs.map(([, other]) => other).join('')] as const
      )
  }
  const small = disguised('abcdefghijknopqrstuvwxyzабвгдежзиклмнопрст', (letter) => !isCapital(letter))
  fc.assert(
    fc.property(small, ([plain, other]) => areSimilar(plain, other) && areSimilar(plain, plain.toUpperCase()))
  )
  const capital = disguised('ABCDEFGHIJKLMNOPQRSTUVWXYZ', isCapital)
  fc.assert(
    fc.property(
      capital,
      ([plain, other]) => areSimilar(plain, other) && areSimilar(plain.toLowerCase(), other)
    )
  )
  t.pass('for any nickname')
  t.end()
})

t.test('no nickname makes the comparison slow', (t) => {
  for (const unit of ['\ufdfa', '\u0300', '\u0316\u0300', '\uac00', 'ﷺm', '𝐦']) {
    const started = process.cpuUsage()
    skeletonDigests(unit.repeat(64))
    const { user, system } = process.cpuUsage(started)
    t.ok(user + system < 50_000, `${printable(unit)}: ${Math.round((user + system) / 1000)} ms`)
  }
  t.end()
})
