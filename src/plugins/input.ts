import type { TSchema } from '@sinclair/typebox'
import { Ajv, type ErrorObject, type ValidateFunction, type Vocabulary } from 'ajv'
import type { DataValidationCxt } from 'ajv/dist/types/index.js'
import fp from 'fastify-plugin'
import { isCommonPassword } from '../accounts/common-passwords.ts'
import { normalNickname } from '../accounts/nicknames.ts'
import { EncodedBody, InvalidRequest, NotJson } from '../errors.ts'
import { normalText } from '../text.ts'

// Cleans a string in place before its length is judged.
function normalize (form: 'trim' | 'nfc', text: string, _schema: unknown, at?: DataValidationCxt): boolean {
  if (at) at.parentData[at.parentDataProperty] = form === 'nfc' ? normalNickname(text) : normalText(text)
  return true
}

/** The keywords of this house, which no other program knows. */
export const keywords = [
  { keyword: 'sentences' },
  { keyword: 'normalize', type: 'string', before: 'maxLength', modifying: true, errors: false, validate: normalize },
  { keyword: 'maxBytes', type: 'string', validate: (limit: number, text: string) => Buffer.byteLength(text) <= limit },
  { keyword: 'uncommon', type: 'string', validate: (_: true, text: string) => !isCommonPassword(text) }
] satisfies Vocabulary
const ajv = new Ajv({ useDefaults: true, verbose: true, keywords })

/** Queries and parameters arrive as text: whole decimal numbers become integers; anything else stays as it is and fails. */
export function integerCoercion (schema: TSchema): (data: Record<string, unknown>) => void {
  const names = Object.entries<TSchema>(schema.properties).flatMap(([name, { type }]) => type === 'integer' ? [name] : [])
  return (data) => {
    for (const name of names) {
      const text = data[name]
      if (typeof text === 'string' && /^-?\d+$/.test(text)) data[name] = Math.max(-Number.MAX_SAFE_INTEGER, Math.min(Number(text), Number.MAX_SAFE_INTEGER))
    }
  }
}

/** The sentence for a value that fails: the schema's own (`sentences`, by keyword), else the rule it breaks. `null` and `''` count as missing. */
function sentence ({ keyword, params, instancePath, parentSchema, data, message }: ErrorObject, part: string): string {
  const missing: TSchema | undefined = keyword === 'required' ? parentSchema?.properties[params.missingProperty] : undefined
  const schema = missing ?? parentSchema
  const field = missing ? params.missingProperty : instancePath.slice(1)
  const own: string | undefined = schema?.sentences?.[data === null || data === '' ? 'required' : keyword]
  if (own) return own
  if (field === '') return `request ${part} must be a JSON object`
  return `${field} ${keyword === 'type' ? `must be ${params.type === 'integer' ? 'a whole number' : `a ${params.type}`}` : message}`
}

/**
 * Request bodies are JSON, validated by the schema of the route. An empty body counts as none, whatever type it names: clients
 * send one where there is nothing to send (`axios.post(url)`, `curl -d ''`). `__proto__` and `constructor.prototype` are dropped
 * like any unknown key.
 */
export default fp(async (app) => {
  const parse = app.getDefaultJsonParser('remove', 'remove')
  app.removeAllContentTypeParsers()
  app.addContentTypeParser<string>('application/json', { parseAs: 'string' }, (request, body, done) => {
    if (body.trim() === '') done(null, undefined)
    else if (!/^(identity)?$/i.test(request.headers['content-encoding'] ?? '')) done(new EncodedBody())
    else void parse(request, body, done)
  })
  app.addHook('preParsing', (request, _reply, payload, done) => {
    const { method, headers } = request.raw
    if (method === 'GET' || method === 'HEAD' || request.mediaType === 'application/json') return done(null, payload)
    if (Number(headers['content-length'] ?? 0) > 0) return done(new NotJson())
    // Fastify would refuse a type that it has no parser for, before it sees that no body follows.
    delete headers['content-type']
    done(null, payload)
  })
  // Only the end of a chunked body shows that it is empty.
  app.addContentTypeParser<string>('*', { parseAs: 'string' }, (_request, body, done) => {
    if (body === '') done(null, undefined)
    else done(new NotJson())
  })

  app.setValidatorCompiler<TSchema>(({ schema, httpPart }) => {
    // Compiled when it is first used, as the serialisers are: no start waits for it.
    let validate: ValidateFunction | undefined
    const coerce = httpPart === 'body' ? undefined : integerCoercion(schema)
    return (data) => {
      validate ??= ajv.compile(schema)
      coerce?.(data)
      return validate(data) || { error: validate.errors ?? [] }
    }
  })
  app.setSchemaErrorFormatter(([error], part) => Object.assign(new InvalidRequest(), { message: sentence(error as ErrorObject, part) }))
}, { name: 'input' })
