import AjvCompiler from '@fastify/ajv-compiler'
import type { Static, TSchema } from '@sinclair/typebox'
import { Ajv, type AnySchemaObject, type ErrorObject, type Vocabulary } from 'ajv'
import type { DataValidationCxt } from 'ajv/dist/types/index.js'
import fp from 'fastify-plugin'
import type { ValidationMessage } from '../../schemas/errors.ts'
import { isCommonPassword } from '../accounts/common-passwords.ts'
import { isLegible, normalizeNickname } from '../accounts/nicknames.ts'
import { EncodedBody, NotJson, ValidationFailed } from '../errors/catalogue.ts'
import { isVisible, normalizeText } from '../lib/text.ts'

const normalForms = { text: normalizeText, nickname: normalizeNickname }

// Replaces a string by its normal form before its length is checked.
function normalize(
  form: keyof typeof normalForms,
  text: string,
  _schema: unknown,
  at?: DataValidationCxt
): boolean {
  if (at) at.parentData[at.parentDataProperty] = normalForms[form](text)
  return true
}

/** Beyond all ids (src/chat/messages.ts): the id of nothing, and a cursor after everything. */
const BEYOND_IDS = Number.MAX_SAFE_INTEGER + 1

/**
 * Queries, parameters and headers arrive as text. Decimal integers are converted, larger ones to
 * `BEYOND_IDS`; anything else is left to fail validation. Ajv's own coercion would also take `1e3`, `0x10`
 * and ` 1`.
 */
export function integerCoercion(schema: AnySchemaObject): (data: Record<string, unknown>) => boolean {
  const names = Object.entries<TSchema>(schema['properties']).flatMap(([name, { type }]) =>
    type === 'integer' ? [name] : []
  )
  return (data) => {
    for (const name of names) {
      const text = data[name]
      if (typeof text === 'string' && /^-?\d+$/.test(text)) {
        data[name] = Math.max(-BEYOND_IDS, Math.min(Number(text), BEYOND_IDS))
      }
    }
    return true
  }
}

/** Custom Ajv keywords. They are stripped from the OpenAPI document. */
export const keywords = [
  { keyword: 'errorMessages' },
  {
    keyword: 'decimalIntegers',
    type: 'object',
    before: 'properties',
    modifying: true,
    errors: false,
    compile: (_: true, schema: AnySchemaObject) => integerCoercion(schema)
  },
  {
    keyword: 'normalize',
    type: 'string',
    before: 'maxLength',
    modifying: true,
    errors: false,
    validate: normalize
  },
  {
    keyword: 'maxBytes',
    type: 'string',
    validate: (limit: number, text: string) => Buffer.byteLength(text) <= limit
  },
  { keyword: 'legible', type: 'string', validate: (_: true, text: string) => isLegible(text) },
  { keyword: 'visible', type: 'string', validate: (_: true, text: string) => isVisible(text) },
  { keyword: 'uncommon', type: 'string', validate: (_: true, text: string) => !isCommonPassword(text) }
] satisfies Vocabulary

function addKeywords(ajv: Ajv): Ajv {
  for (const keyword of keywords) ajv.addKeyword(keyword)
  return ajv
}

const TIME = /^(\d{4}-\d\d-\d\d)T(?:[01]\d|2[0-3]):\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/i

/** Whether a text is an RFC 3339 time (section 5.6) that exists and can be stored. */
function isTime(text: string): boolean {
  const [, date = ''] = TIME.exec(text) ?? []
  const time = Date.parse(text.toUpperCase())
  const isDay = new Date(`${date}T00:00:00Z`).getUTCDate() === Number(date.slice(-2)) // no February 30
  return isDay && time < Date.UTC(10_000, 0)
}

const addFormats = (ajv: Ajv) => ajv.addFormat('date-time', isTime)

/** Options of Ajv. Nothing is coerced or removed but by the custom keywords. */
const ajvOptions = {
  customOptions: {
    coerceTypes: false,
    removeAdditional: false,
    useDefaults: true,
    verbose: true, // so that an error has its schema, with the message for it
    allowUnionTypes: true
  },
  plugins: [addKeywords],
  onCreate: addFormats // after the formats that the compiler adds
} satisfies Parameters<AjvCompiler.BuildCompilerFromPool>[1]

/** The schema's message for a rejected value. `null` and `''` count as missing. */
function messageOf({ keyword, params, parentSchema, data }: ErrorObject): ValidationMessage {
  const schema: TSchema | undefined =
    keyword === 'required' ? parentSchema?.properties[params.missingProperty] : parentSchema
  const messages: Record<string, ValidationMessage> = schema?.errorMessages ?? {}
  const message = (data === null || data === '' ? messages['required'] : undefined) ?? messages[keyword]
  if (message === undefined) throw new Error(`the schema has no message for "${keyword}"`)
  return message
}

/**
 * Validates data that does not come from a request, and normalises it in place.
 * @throws {ValidationFailed}
 */
export function parseData<Schema extends TSchema>(schema: Schema, data: unknown): Static<Schema> {
  const ajv = addFormats(addKeywords(new Ajv(ajvOptions.customOptions)))
  const validate = ajv.compile<Static<Schema>>(schema)
  if (validate(data)) return data
  const [error] = validate.errors ?? []
  if (error === undefined) throw new Error('the data was refused without a reason')
  throw new ValidationFailed(messageOf(error))
}

/**
 * Parses a query string as the Go service does: the first of a repeated parameter wins, and an empty one is
 * absent.
 */
export function parseQuery(text: string): Record<string, string> {
  const query: Record<string, string> = {}
  if (text === '') return query
  const seen = new Set<string>()
  for (const [name, value] of new URLSearchParams(text)) {
    if (value !== '' && !seen.has(name)) query[name] = value
    seen.add(name)
  }
  return query
}

/**
 * Parses JSON bodies, and gives validation errors the messages of their schemas. An empty body counts as
 * none, whatever its type: some clients always send one (`axios.post(url)`, `curl -d ''`). `__proto__` and
 * `constructor.prototype` are dropped like any unknown key.
 */
export default fp(
  async (app) => {
    const parse = app.getDefaultJsonParser('remove', 'remove')
    app.removeAllContentTypeParsers()
    app.addContentTypeParser<string>('application/json', { parseAs: 'string' }, (request, body, done) => {
      if (body.trim() === '') done(null, undefined)
      else if (!/^(identity)?$/i.test(request.headers['content-encoding'] ?? '')) done(new EncodedBody())
      else void parse(request, body, done)
    })
    app.addHook('preParsing', (request, _reply, payload, done) => {
      const { method, headers } = request.raw
      if (method === 'GET' || method === 'HEAD' || request.mediaType === 'application/json') {
        return done(null, payload)
      }
      if (Number(headers['content-length'] ?? 0) > 0) return done(new NotJson())
      // Otherwise Fastify refuses a type without a parser before it sees that no body follows.
      delete headers['content-type']
      done(null, payload)
    })
    // A chunked body is only known to be empty at its end.
    app.addContentTypeParser<string>('*', { parseAs: 'string' }, (_request, body, done) => {
      if (body === '') done(null, undefined)
      else done(new NotJson())
    })

    // Fastify's compiler, but each validator is compiled on first use, because all of them together take
    // 40 ms of CPU and 6 MiB at the start.
    const compile = AjvCompiler()({}, ajvOptions)
    app.setValidatorCompiler((route) => {
      let validate: ReturnType<typeof compile> | undefined
      return (data) => {
        validate ??= compile(route)
        return validate(data) === true || { error: validate.errors ?? [] }
      }
    })
    app.setSchemaErrorFormatter(([error]) => new ValidationFailed(messageOf(error as ErrorObject)))
  },
  { name: 'input' }
)
