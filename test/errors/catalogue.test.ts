import { readFileSync } from 'node:fs'
import type { TSchema } from '@sinclair/typebox'
import { pino } from 'pino'
import t, { type Test } from 'tap'
import { buildApp } from '../../src/app.ts'
import * as errors from '../../src/errors/catalogue.ts'
import { config, createDatabase } from '../helpers/database.ts'

interface InputSchema {
  route: string
  part: 'body' | 'querystring' | 'headers' | 'params'
  schema: TSchema
}

/** The schemas of all routes for what comes in. */
async function inputSchemas(t: Test): Promise<InputSchema[]> {
  const app = buildApp({ ...config, POSTGRES_DB: await createDatabase(t) }, pino({ level: 'silent' }))
  t.teardown(() => app.close())
  const schemas: InputSchema[] = []
  app.addHook('onRoute', ({ method, url, schema = {} }) => {
    for (const part of ['body', 'querystring', 'headers', 'params'] as const) {
      const found = schema[part] as TSchema | undefined // Every schema here is one of TypeBox.
      if (found) schemas.push({ route: `${String(method)} ${url}`, part, schema: found })
    }
  })
  await app.ready()
  return schemas
}

const isErrorClass = (value: unknown): value is new () => errors.ClientError =>
  typeof value === 'function' &&
  value.prototype instanceof errors.ClientError &&
  value !== errors.ValidationFailed

const row = ({ statusCode, code, message }: errors.ClientError) =>
  `| ${statusCode} | \`${code}\` | ${message} |`

t.test('docs/api.md lists every error with its status, code and sentence, and no other', async (t) => {
  const schemas = await inputSchemas(t)
  const classes = [
    ...Object.values<unknown>(errors).filter(isErrorClass),
    ...errors.validationFailures(...schemas.map(({ schema }) => schema))
  ]
  const expected = new Set(classes.map((ErrorClass) => row(new ErrorClass())))
  const page = readFileSync(new URL('../../docs/api.md', import.meta.url), 'utf8')
  const documented = page.split('\n').filter((line) => /^\| \d{3} \| `/.test(line))
  t.strictSame(documented.toSorted(), [...expected].sort())
  const codes = [...expected].map((line) => line.split('`')[1])
  t.equal(new Set(codes).size, codes.length, 'each code has one status and one sentence')
  t.ok(codes.length > 40)
  for (const code of codes) t.match(code, /^[a-z]+(_[a-z]+)*$/)
})

// Keywords that describe, or that refuse nothing; `required` is looked for where the property is.
const HARMLESS = new Set([
  'title',
  'description',
  'examples',
  'default',
  'normalize',
  'decimalIntegers',
  'errorMessages',
  'properties',
  'required'
])

t.test('everything that a schema refuses has its own code and sentence', async (t) => {
  let checked = 0
  for (const { route, part, schema } of await inputSchemas(t)) {
    for (const [name, value] of [['', schema] as const, ...Object.entries<TSchema>(schema.properties)]) {
      // Only a body has values of other types than text. In a query, text that is no integer stays text.
      const hasTypes = part === 'body' || (part === 'querystring' && name !== '')
      const keywords = Object.keys(value).filter(
        (keyword) => !HARMLESS.has(keyword) && (keyword !== 'type' || hasTypes)
      )
      if (part === 'body' && schema.required?.includes(name)) keywords.push('required')
      for (const keyword of keywords) {
        if (keyword === 'minLength' && value.minLength === 1) continue // The empty string counts as missing.
        const message: unknown = value.errorMessages?.[keyword]
        t.match(message, { code: /^\w+$/, message: /^\S.+\S$/ }, `${route}: ${keyword} of ${part} ${name}`)
        checked++
      }
    }
  }
  t.ok(checked > 30)
})
