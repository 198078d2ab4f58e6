import fc from 'fast-check'
import Fastify, { type FastifyRequest } from 'fastify'
import t, { type Test } from 'tap'
import { RegisterRequest, LoginRequest, MAX_NICKNAME } from '../../schemas/accounts.ts'
import { PostMessageRequest, ListMessagesQuery } from '../../schemas/messages.ts'
import { lookupNickname, normalizeNickname } from '../../src/accounts/nicknames.ts'
import { loadConfig } from '../../src/config.ts'
import { AuthorizationMalformed, AuthorizationMissing } from '../../src/errors/catalogue.ts'
import { bearerToken } from '../../src/plugins/authenticate.ts'
import input, { integerCoercion } from '../../src/plugins/validation.ts'
import { requestId } from '../../src/lib/request-id.ts'
import { StartError } from '../../src/lib/start-error.ts'
import { normalizeText } from '../../src/lib/text.ts'
import { printable } from '../helpers/printable.ts'

// Texts of anything, and of what matters to whoever trims, composes, or counts.
const piece = fc.oneof(
  fc.constantFrom(
    ' ',
    '\t',
    '\n',
    '\u0085',
    '\u00a0',
    '\u2003',
    '\u2028',
    '\ufeff',
    '\0',
    'e\u0301',
    '\u1100\u1161',
    '\ud83d',
    '\ude00',
    '😀',
    '\u200d',
    'я',
    '\u0301',
    '\u0335\u0316',
    '\u3164',
    '\u2800',
    '\ue000',
    '\u0378'
  ),
  fc.string({ unit: 'binary', maxLength: 3 })
)
const text = fc.array(piece, { maxLength: 30 }).map((pieces) => pieces.join(''))
const space = fc
  .array(fc.constantFrom(' ', '\u0085', '\u2003', '\n'), { maxLength: 5 })
  .map((pieces) => pieces.join(''))

async function holds<Values>(t: Test, property: fc.IRawProperty<Values>): Promise<void> {
  await fc.assert(property)
  t.pass('for any input')
}

/** The rule, one code point after another. */
function reference(given: string): string[] {
  const points = [...given].map((point) => (/^\p{Surrogate}$/u.test(point) ? '\ufffd' : point))
  const isSpace = (point: string | undefined) =>
    point !== undefined && /^[\p{White_Space}\ufeff]$/u.test(point)
  while (isSpace(points[0])) points.shift()
  while (isSpace(points.at(-1))) points.pop()
  return points
}

const isMark = (point: string | undefined) => point !== undefined && /^\p{M}$/u.test(point)
const isBlank = (point: string) => /^[\u{16fe4}\u2800\ufff9-\ufffb\u{13430}-\u{13442}\u{1d159}]$/u.test(point)
const isIgnorable = (point: string) => /^\p{Default_Ignorable_Code_Point}$/u.test(point) || isBlank(point)
const isSeen = (point: string) => !/^[\p{White_Space}\p{Cc}]$/u.test(point) && !isIgnorable(point)

/** The rule for nicknames, one code point after another. */
function isNickname(points: string[]): boolean {
  const isAllowed = (point: string) =>
    !/^(\p{Cc}|\p{Cf}|\p{Cn}|\p{Co}|\p{Zl}|\p{Zp})$/u.test(point) && !isIgnorable(point)
  const hasBase = (point: string, i: number) =>
    !isMark(point) || (i > 0 && !/^\p{Z}$/u.test(points[i - 1] ?? ''))
  const isStacked = (_: string, i: number) => points.slice(i, i + 5).filter(isMark).length === 5
  return (
    points.length >= 1 &&
    points.length <= 64 &&
    points.every(isAllowed) &&
    points.every(hasBase) &&
    !points.some(isStacked)
  )
}

t.test(
  'texts and nicknames are trimmed, well-formed and, where wanted, composed, and a second time changes nothing',
  async (t) => {
    await holds(
      t,
      fc.property(
        text,
        (given) =>
          normalizeText(given) === reference(given).join('') &&
          normalizeNickname(given) === reference(given).join('').normalize('NFC')
      )
    )
    await holds(
      t,
      fc.property(
        text,
        (given) =>
          normalizeText(normalizeText(given)) === normalizeText(given) &&
          normalizeNickname(normalizeNickname(given)) === normalizeNickname(given)
      )
    )
  }
)

t.test('a nickname of maximum length is stored, however it is decomposed', async (t) => {
  const refused: string[] = []
  let composed = 0
  for (let code = 0x21; code <= 0x10ffff; code++) {
    const point = String.fromCodePoint(code)
    const decomposed = point.normalize('NFD')
    if (decomposed === point || decomposed.normalize('NFC') !== point) continue
    composed++
    if (normalizeNickname(decomposed.repeat(MAX_NICKNAME)) !== point.repeat(MAX_NICKNAME)) {
      refused.push(code.toString(16))
    }
  }
  t.strictSame(refused, [])
  t.ok(composed > 12_000, `${composed} code points were tried`)
})

t.test(
  'all spellings that find the same user have the same normal form, by which limits count',
  async (t) => {
    await holds(
      t,
      fc.property(text, (given) => {
        const { typed, normal } = lookupNickname(given)
        return (
          !typed.includes('\0') &&
          typed.isWellFormed() &&
          [typed, normal].every((stored) => lookupNickname(stored).normal === normal)
        )
      })
    )
    t.equal(lookupNickname('Zo\0').normal, lookupNickname('Zo\ufffd').normal)
  }
)

t.test('no text makes normalisation slow', async (t) => {
  const body = 63_000 // bytes of a text that fits into a body
  for (const unit of [
    '\u0300',
    '\u0300\u0316',
    '\u0316\u0300\u05b0',
    ' ',
    ' \u0085',
    '\u2003',
    '\ud800',
    '\0',
    '\ufdfa',
    '\uac00',
    'a\u0323\u0307'
  ]) {
    const texts = [
      unit.repeat(body / Buffer.byteLength(unit)),
      ...[...unit].map((point) => point.repeat(body / 2 / Buffer.byteLength(unit)))
    ]
    for (const given of [...texts, texts.slice(1).join(''), `x${texts[0]}x`]) {
      const started = process.cpuUsage()
      normalizeText(given)
      normalizeNickname(given)
      lookupNickname(given)
      const { user, system } = process.cpuUsage(started)
      t.ok(user + system < 100_000, `${printable(unit)}: ${Math.round((user + system) / 1000)} ms`)
    }
  }
})

t.test('the length of a text counts the code points that are stored, and nothing else', async (t) => {
  const app = Fastify().register(input)
  app.register(async (app) => {
    app.post('/text', { schema: { body: PostMessageRequest } }, async ({ body }) => body)
    app.post('/nickname', { schema: { body: RegisterRequest(8) } }, async ({ body }) => body)
    app.post('/login', { schema: { body: LoginRequest } }, async ({ body }) => body)
  })
  t.teardown(() => app.close())
  const post = async (url: string, payload: object) => {
    const answer = await app.inject({ method: 'POST', url, payload })
    return answer.statusCode === 200 ? answer.json() : undefined
  }
  const sized = (limit: number) =>
    fc.oneof(
      text,
      fc
        .tuple(
          space,
          fc.constantFrom('x', 'я', '😀', 'e\u0301'),
          fc.integer({ min: limit - 1, max: limit + 1 }),
          space
        )
        .map(
          ([before, unit, count, after]) => before + unit.repeat(Math.floor(count / [...unit].length)) + after
        )
    )
  await holds(
    t,
    fc.asyncProperty(sized(2000), async (given) => {
      const points = reference(given)
      const isLegal = points.some(isSeen) && points.length <= 2000 && !points.includes('\0')
      return (await post('/text', { text: given }))?.text === (isLegal ? points.join('') : undefined)
    })
  )
  await holds(
    t,
    fc.asyncProperty(sized(64), async (nickname) => {
      const stored = reference(nickname).join('').normalize('NFC')
      const isLegal = isNickname([...stored])
      return (
        (await post('/nickname', { nickname, password: 'correct horse' }))?.nickname ===
        (isLegal ? stored : undefined)
      )
    })
  )
  await holds(
    t,
    fc.asyncProperty(fc.jsonValue(), fc.jsonValue(), async (nickname, password) => {
      const isLegal = [nickname, password].every((value) => typeof value === 'string' && value !== '')
      return ((await post('/login', { nickname, password })) !== undefined) === isLegal
    })
  )
})

t.test(
  'a cursor is a whole decimal number, of any size, and counts as 2^53 if it is more than that',
  async (t) => {
    const coerce = (value: string): unknown => {
      const data: Record<string, unknown> = { after_id: value }
      integerCoercion(ListMessagesQuery)(data)
      return data['after_id']
    }
    const limit = 2n ** 53n
    const clamped = (value: bigint) => Number(value > limit ? limit : value < -limit ? -limit : value)
    await holds(
      t,
      fc.property(
        fc.bigInt({ min: -(10n ** 30n), max: 10n ** 30n }),
        fc.nat(3),
        (value, zeros) =>
          coerce(`${value < 0n ? '-' : ''}${'0'.repeat(zeros)}${value < 0n ? -value : value}`) ===
          clamped(value)
      )
    )
    await holds(
      t,
      fc.property(
        fc.oneof(fc.string(), fc.stringMatching(/^[-+ 0-9.eEx_]{0,12}$/)),
        (value) => coerce(value) === (/^-?[0-9]+$/.test(value) ? clamped(BigInt(value)) : value)
      )
    )
  }
)

t.test('a request id is taken from the request if it is short and plain, otherwise generated', async (t) => {
  const plain = new Set('abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.:/+=-')
  const id = fc.oneof(
    fc.string(),
    fc.string({ unit: fc.constantFrom(...plain), maxLength: 140 }),
    fc.constant(undefined),
    fc.array(fc.string())
  )
  await holds(
    t,
    fc.property(id, (given) => {
      const isPlain =
        typeof given === 'string' &&
        given.length >= 1 &&
        given.length <= 128 &&
        [...given].every((letter) => plain.has(letter))
      const taken = requestId({ headers: { 'x-request-id': given } })
      return isPlain ? taken === given : /^[0-9a-f-]{36}$/.test(taken)
    })
  )
})

t.test('a token follows the scheme in any case, after spaces, and contains none', async (t) => {
  const token = (authorization: string) => bearerToken({ headers: { authorization } } as FastifyRequest)
  const scheme = fc
    .tuple(...[...'bearer'].map((letter) => fc.constantFrom(letter, letter.toUpperCase())))
    .map((letters) => letters.join(''))
  const visible = fc.string({
    minLength: 1,
    unit: fc.integer({ min: 0x21, max: 0x7e }).map((code) => String.fromCharCode(code))
  })
  await holds(
    t,
    fc.property(
      scheme,
      fc.integer({ min: 1, max: 5 }),
      visible,
      (word, spaces, wanted) => token(`${word}${' '.repeat(spaces)}${wanted}`) === wanted
    )
  )
  await holds(
    t,
    fc.property(
      fc.oneof(
        fc.string(),
        fc.string().map((rest) => `Bearer ${rest}`)
      ),
      (authorization) => {
        try {
          const found = token(authorization)
          return (
            !/\s/.test(found) &&
            /^bearer /i.test(authorization) &&
            authorization.slice(6).replace(/^ +/, '') === found
          )
        } catch (error) {
          return authorization === ''
            ? error instanceof AuthorizationMissing
            : error instanceof AuthorizationMalformed
        }
      }
    )
  )
})

t.test(
  'TRUST_PROXY and CORS_ORIGIN are lists that their readers take, or end the start with one clear line',
  async (t) => {
    const load = (name: 'TRUST_PROXY' | 'CORS_ORIGIN', value: string) => {
      try {
        return loadConfig({ [name]: value })[name]
      } catch (error) {
        if (!(error instanceof StartError) || !error.message.startsWith(`${name} must be `)) throw error
        return error
      }
    }
    const address = fc
      .oneof(
        fc.ipV4().map((ip) => [ip, 32] as const),
        fc.ipV6().map((ip) => [ip, 128] as const)
      )
      .chain(([ip, bits]) =>
        fc.oneof(
          fc.constant(ip),
          fc.integer({ min: 1, max: bits }).map((length) => `${ip}/${length}`)
        )
      )
    await holds(
      t,
      fc.property(
        fc.array(address, { minLength: 1, maxLength: 4 }),
        fc.constantFrom(',', ', ', ' , '),
        (list, comma) => {
          const value = list.join(comma)
          Fastify({ trustProxy: value }) // It throws for what it does not take.
          return load('TRUST_PROXY', value) === value
        }
      )
    )
    const nearly = fc.oneof(
      address,
      fc.ipV4(),
      fc.string(),
      fc.stringMatching(/^[0-9a-f:./ ]{0,15}$/),
      fc.constantFrom('0.0.0.0/0', '::/0', '10.0.0.0/33', '10.0.0.0/08', 'loopback', '*', '')
    )
    await holds(
      t,
      fc.property(fc.array(nearly, { minLength: 1, maxLength: 3 }), (list) => {
        const value = load('TRUST_PROXY', list.join(','))
        if (typeof value === 'string') Fastify({ trustProxy: value })
        return (
          typeof value !== 'string' ||
          value.split(',').every((entry) => !/\/0*$/.test(entry) && !entry.includes('*'))
        )
      })
    )
    const origin = fc.webUrl({
      validSchemes: ['http', 'https'],
      withFragments: true,
      withQueryParameters: true
    })
    await holds(
      t,
      fc.property(fc.array(origin, { minLength: 1, maxLength: 3 }), (urls) => {
        const origins = urls.map((url) => new URL(url).origin).join(', ')
        return load('CORS_ORIGIN', origins) === origins
      })
    )
    await holds(
      t,
      fc.property(
        fc.oneof(
          origin,
          fc.webUrl({ validSchemes: ['ftp', 'file'] }),
          fc.string(),
          fc.constantFrom('*', 'null', 'https://a.example:443', 'https://A.example')
        ),
        (url) => {
          const isOrigin =
            URL.canParse(url) && /^https?:$/.test(new URL(url).protocol) && new URL(url).origin === url
          return url === '' || (load('CORS_ORIGIN', url) === url) === isOrigin
        }
      )
    )
  }
)
