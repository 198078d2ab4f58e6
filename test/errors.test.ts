import { readFileSync } from 'node:fs'
import type { TSchema } from '@sinclair/typebox'
import type { FastifySchema } from 'fastify'
import { pino } from 'pino'
import t, { type Test } from 'tap'
import { buildApp } from '../src/app.ts'
import * as errors from '../src/errors.ts'
import { config, createDatabase } from './helpers/database.ts'

/** The schemas of all routes for what comes in. */
async function inputSchemas (t: Test): Promise<{ route: string, part: string, schema: TSchema }[]> {
  const app = buildApp({ ...config, POSTGRES_DB: await createDatabase(t) }, pino({ level: 'silent' }))
  t.teardown(() => app.close())
  const schemas: { route: string, part: string, schema: TSchema }[] = []
  app.addHook('onRoute', ({ method, url, schema = {} }) => {
    for (const part of ['body', 'querystring', 'headers', 'params'] as const satisfies (keyof FastifySchema)[]) {
      const found = schema[part] as TSchema | undefined // Every schema here is one of TypeBox.
      if (found) schemas.push({ route: `${[method].flat().join()} ${url}`, part, schema: found })
    }
  })
  await app.ready()
  return schemas
}

const isErrorClass = (value: unknown): value is new () => errors.ClientError =>
  typeof value === 'function' && value.prototype instanceof errors.ClientError && value !== errors.ValidationFailed

const row = ({ statusCode, code, message }: errors.ClientError) => `| ${statusCode} | \`${code}\` | ${message} |`

t.test('docs/api.md lists every error with its status, code and sentence, and no other', async (t) => {
  const schemas = await inputSchemas(t)
  const classes = [
    ...Object.values<unknown>(errors).filter(isErrorClass),
    ...errors.validationFailures(...schemas.map(({ schema }) => schema))
  ]
  const expected = new Set(classes.map((ErrorClass) => row(new ErrorClass())))
  const page = readFileSync(new URL('../docs/api.md', import.meta.url), 'utf8')
  const documented = page.split('\n').filter((line) => /^\| \d{3} \| `/.test(line))
  t.strictSame(documented.toSorted(), [...expected].sort())
  const codes = [...expected].map((line) => line.split('`')[1])
  t.equal(new Set(codes).size, codes.length, 'each code has one status and one sentence')
  t.ok(codes.length > 40)
  for (const code of codes) t.match(code, /^[a-z]+(_[a-z]+)*$/)
})

t.test('whatever a schema refuses has a code and a sentence of its own', async (t) => {
  // Keywords that describe, or that refuse nothing.
  const harmless = new Set(['title', 'description', 'examples', 'default', 'normalize', 'errorMessages', 'properties'])
  const refusals = ({ schema, part, isRoot }: { schema: TSchema, part: string, isRoot: boolean }) => Object.keys(schema).filter((keyword) => {
    if (harmless.has(keyword) || keyword === 'required') return false
    // Only a body has values of other types than text, and text that is no integer stays text.
    return keyword !== 'type' || part === 'body' || (part === 'querystring' && !isRoot)
  })
  let checked = 0
  for (const { route, part, schema } of await inputSchemas(t)) {
    for (const [name, value] of [['', schema] as const, ...Object.entries<TSchema>(schema.properties)]) {
      const isRequired = schema.required?.includes(name)
      const wanted = [...refusals({ schema: value, part, isRoot: name === '' }), ...(isRequired && part === 'body' ? ['required'] : [])]
      for (const keyword of wanted) {
        if (keyword === 'minLength' && value.minLength === 1) continue // The empty string counts as missing.
        checked++
        t.match(value.errorMessages?.[keyword], { code: /^\w+$/, message: /^\S.+\S$/ }, `${route}: ${keyword} of ${part} ${name}`)
      }
    }
  }
  t.ok(checked > 30)
})
