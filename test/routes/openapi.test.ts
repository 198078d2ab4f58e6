import { readFileSync } from 'node:fs'
import { Validator } from '@seriousme/openapi-schema-validator'
import { Ajv2020 } from 'ajv/dist/2020.js'
import { pino } from 'pino'
import t, { type Test } from 'tap'
import { events } from '../../schemas/events.ts'
import { buildApp } from '../../src/app.ts'
import { keywords } from '../../src/plugins/validation.ts'
import { type Answer, type Call, startService } from '../helpers/app.ts'
import { config, createDatabase, ownUserIds } from '../helpers/database.ts'

interface Response {
  $ref?: string
  description: string
  headers: Record<string, { schema: object }>
  content?: Record<string, { schema: object; example?: unknown; examples?: object }>
}
interface Operation {
  summary?: string
  description?: string
  tags: string[]
  operationId: string
  security?: object[]
  parameters?: { name: string; in: string; schema: object }[]
  requestBody?: { content: Record<string, { example?: unknown; examples?: object }> }
  responses: Record<string, Response>
}

const resolve = (
  { components }: { components: { responses: Record<string, Response> } },
  response: Response
) => components.responses[response.$ref?.replace('#/components/responses/', '') ?? ''] ?? response

// The headers by which clients decide.
const isRelied =
  /^(age|idempotency-replayed|ratelimit|ratelimit-policy|retry-after|www-authenticate|x-event-cursor|x-request-id|x-stale)$/

const app = buildApp(
  { ...config, MAX_EVENT_LOOP_DELAY: 60_000, POSTGRES_DB: await createDatabase(t) },
  pino({ level: 'silent' })
)
t.teardown(() => app.close())
const routes: [method: string, path: string][] = []
app.addHook('onRoute', ({ method, url, schema }) => {
  if (!Array.isArray(method) && method !== 'HEAD' && !schema?.hide) {
    routes.push([method.toLowerCase(), url.replace(/:(\w+)(\(.*\))?/, '{$1}')])
  }
})
const sent = await app.inject('/api/openapi.json')
const document = JSON.parse(sent.body)
const operations = Object.entries<Record<string, Operation>>(document.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]) => ({
    method,
    path,
    operation,
    name: `${method} ${path}`
  }))
)

t.test('the document is valid OpenAPI 3.1, of this version, without custom keywords', async (t) => {
  t.equal(sent.statusCode, 200)
  t.equal(sent.headers['content-type'], 'application/json; charset=utf-8')
  t.equal(document.openapi, '3.1.0')
  t.strictSame((await new Validator().validate(document)).errors, undefined)
  t.equal(
    document.info.version,
    JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')).version
  )
  for (const { keyword } of keywords) t.notMatch(sent.body, `"${keyword}"`, `${keyword} is a custom keyword`)
})

t.test('the document describes every route, and no other', async (t) => {
  t.ok(routes.length > 14)
  t.strictSame(operations.map(({ method, path }) => [method, path]).sort(), routes.sort())
  t.equal(new Set(operations.map(({ operation: { operationId } }) => operationId)).size, routes.length)
  for (const { path, operation, name } of operations) {
    t.ok(operation.summary && operation.description, name)
    t.equal(
      path.includes('{id}'),
      operation.parameters?.some((parameter) => parameter.in === 'path' && parameter.name === 'id') ?? false
    )
    if (operation.requestBody) {
      const { example, examples } = operation.requestBody.content['application/json'] ?? {}
      t.ok(example ?? examples, `${name} has a body to try`)
    }
    for (const tag of operation.tags) {
      t.ok(
        document.tags.some(({ name }: { name: string }) => name === tag),
        `the tag ${tag} is described`
      )
    }
  }
})

t.test('the document asks for a token exactly where the route does', async (t) => {
  for (const { method, path, operation, name } of operations) {
    const answer = await app.inject({
      method: method.toUpperCase() as 'GET',
      url: path.replace('{id}', '1').replace('/api/events', '/api/events?since=x')
    })
    const isProtected = answer.statusCode === 401
    t.strictSame(
      operation.security,
      isProtected ? [{ token: [] }] : [],
      `${name} ${isProtected ? 'wants a token' : 'wants none'}`
    )
  }
})

t.test('each response is described with its headers and an example', async (t) => {
  for (const { path, operation, name } of operations) {
    // A 429 for too many open requests has no `RateLimit` headers.
    const refusals =
      operation.responses['429'] &&
      resolve(document, operation.responses['429']).content?.['application/json']?.examples
    const isLimited = 'rate_limited' in (refusals ?? {})
    for (const [status, response] of Object.entries(operation.responses)) {
      const { description, headers, content = {} } = resolve(document, response)
      t.match(status, /^\d{3}$/)
      t.ok(description && description !== 'Default Response', `${name} ${status} is described`)
      t.ok(headers['X-Request-Id'])
      t.equal('Retry-After' in headers, ['429', '503'].includes(status))
      t.equal('WWW-Authenticate' in headers, status === '401')
      const isCounted = isLimited && !['408', '417', '431'].includes(status)
      t.equal('RateLimit' in headers && 'RateLimit-Policy' in headers, isCounted)
      const [media] = Object.values(content)
      t.equal(media === undefined, status === '204')
      if (media && path !== '/api/openapi.json') {
        t.ok(media.example ?? media.examples, `${name} ${status} has an example`)
      }
      if (Number(status) >= 400) t.strictSame(media?.schema, { $ref: '#/components/schemas/ErrorResponse' })
    }
  }
})

t.test('lists, posts and events have the headers that clients rely on', async (t) => {
  const { get: list, post } = document.paths['/api/messages']
  t.ok(
    resolve(document, post.responses['201']).headers['RateLimit'] &&
      !resolve(document, list.responses['200']).headers['RateLimit']
  )
  t.ok(list.responses['200'].headers['X-Event-Cursor'] && list.responses['200'].headers.Age)
  t.notOk(
    list.parameters.some(({ required }: { required: boolean }) => required),
    'no parameter is required'
  )
  t.ok(post.responses['201'].headers['Idempotency-Replayed'])
  t.strictSame(Object.keys(document.paths['/api/events'].get.responses['200'].content), ['text/event-stream'])
})

t.test('every component of the document has a readable name and is used', async (t) => {
  const text = JSON.stringify(document)
  for (const kind of ['schemas', 'responses'] as const) {
    const names = Object.keys(document.components[kind])
    t.ok(names.length > 10)
    for (const name of names) {
      t.match(name, /^([A-Z][a-z]+)+$/)
      t.ok(text.includes(`"#/components/${kind}/${name}"`), `${name} is used`)
    }
  }
  t.match(document.components.responses, { Unauthorized: {}, RateLimited: {}, MessageNotFound: {} })
})

t.test('each event of the stream has a schema of its own', async (t) => {
  const { schema } = document.paths['/api/events'].get.responses['200'].content['text/event-stream']
  t.strictSame(schema.contentSchema, { $ref: '#/components/schemas/Event' })
  const { schemas } = document.components
  const types = schemas.Event.anyOf.map(({ $ref }: { $ref: string }) => {
    const name = $ref.replace('#/components/schemas/', '')
    t.match(name, /Event$/)
    return schemas[name].properties.type.const
  })
  t.strictSame(types.sort(), Object.keys(events).sort())
})

t.test(
  'the page and its files: nothing from elsewhere, nothing inline, and asked for again only when they change',
  async (t) => {
    const { app, call } = await startService(t)
    const page = await call('GET', '/api/docs')
    t.equal(page.status, 200)
    t.equal(page.headers.get('content-type'), 'text/html; charset=utf-8')
    const policy = page.headers.get('content-security-policy') ?? ''
    t.ok(policy.startsWith("default-src 'none'; "))
    t.notMatch(policy, /unsafe|http|\*/)
    const files = [...page.body.matchAll(/ (?:src|href)="([^"]+)"/g)].map(([, file]) => `/api/${file}`)
    t.equal(files.length, 4)
    for (const file of files) {
      const { status, headers } = await call('GET', file)
      t.equal(status, 200, file)
      t.match(
        headers.get('content-type'),
        { js: /\/javascript; charset=utf-8$/, css: /^text\/css/, png: /^image\/png/ }[
          file.replace(/.*\./, '')
        ]
      )
      if (file.endsWith('/start.js')) continue // one line, which is not kept
      t.equal(headers.get('cache-control'), 'no-cache')
      const again = await app.inject({ url: file, headers: { 'if-none-match': headers.get('etag')! } })
      t.strictSame([again.statusCode, again.body], [304, ''])
      t.equal((await app.inject({ url: file, headers: { 'if-none-match': '"another"' } })).statusCode, 200)
    }
    for (const path of ['/api/docs/', '/api//docs//', '//api/docs?x//']) {
      const { body } = await app.inject(path)
      const files = [...body.matchAll(/ (?:src|href)="([^"]+)"/g)].map(
        ([, file = '']) => new URL(file, `http://x${path}`).pathname
      )
      t.equal(files.length, 4)
      for (const file of files) t.equal((await app.inject(file)).statusCode, 200, `${file} of ${path}`)
    }
    for (const path of [
      '/api/docs/package.json',
      '/api/docs/..%2fpackage.json',
      '/api/docs/swagger-ui-bundle.js.map'
    ]) {
      t.equal((await call('GET', path)).status, 404, path)
    }
  }
)

/**
 * Starts the service.
 * @returns it, and how to hold its responses to the document
 */
async function startConforming(t: Test) {
  const service = await startService(t, { RATE_LIMIT: 'on' })
  await ownUserIds(service.database)
  const ajv = new Ajv2020({ strict: false }).addFormat(
    'date-time',
    /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/
  )
  const conforms = ({ status, headers, body }: Answer, method: string, path: string) => {
    const at = path.replace(/\?.*/, '').replace(/\/\d+$/, '/{id}')
    const described = resolve(document, document.paths[at][method.toLowerCase()].responses[status])
    const schema = described.content?.['application/json']?.schema
    t.equal(schema === undefined, body === undefined)
    if (status >= 400) {
      t.match(
        described.content?.['application/json']?.examples,
        { [body.code]: { value: { error: body.error } } },
        `${body.code} is listed`
      )
    }
    if (schema) {
      t.ok(ajv.validate({ ...schema, components: document.components }, body), `${status} ${method} ${path}`)
    }
    for (const [name, value] of headers) {
      const header = Object.entries(described.headers).find(([header]) => header.toLowerCase() === name)?.[1]
      if (isRelied.test(name)) {
        t.ok(
          header && ajv.validate(header.schema, /^\d+$/.test(value) ? Number(value) : value),
          `${name}: ${value}`
        )
      }
    }
  }
  const check = async (status: number, method: string, path: string, options: Call = {}) => {
    const answer = await service.call(method, path, options)
    t.equal(answer.status, status, `${method} ${path}`)
    conforms(answer, method, path)
    return answer
  }
  return { ...service, conforms, check }
}

t.test('responses for accounts and sessions match the document', async (t) => {
  const { check, register } = await startConforming(t)
  const { nickname, token } = await register()
  const password = 'correct horse'
  await check(409, 'POST', '/api/register', { body: { nickname, password } })
  await check(400, 'POST', '/api/register', { body: { nickname } })
  await check(400, 'POST', '/api/register', { body: { nickname: 'x'.repeat(65), password } })
  await check(400, 'POST', '/api/register', { body: { nickname: 'bob', password: 'short' } })
  await check(400, 'POST', '/api/register', { raw: '[]' })
  await check(201, 'POST', '/api/register', { body: { nickname: 'alice', password } })
  await check(200, 'POST', '/api/login', { body: { nickname, password } })
  await check(401, 'POST', '/api/login', { body: { nickname, password: 'wrong' } })
  await check(400, 'POST', '/api/login', { raw: '{' })
  await check(415, 'POST', '/api/login', { raw: 'text', headers: { 'content-type': 'text/plain' } })
  await check(413, 'POST', '/api/login', { raw: 'x'.repeat(70_000) })
  await check(200, 'GET', '/api/sessions', { token })
  await check(400, 'PUT', '/api/password', { token, body: { currentPassword: password } })
  await check(204, 'POST', '/api/logout', { token })
  await check(401, 'GET', '/api/sessions')
})

t.test('responses for messages and events match the document', async (t) => {
  const { check, register } = await startConforming(t)
  const { token } = await register()
  const post = { token, body: { text: 'hello' }, headers: { 'idempotency-key': 'one' } }
  const {
    body: { id }
  } = await check(201, 'POST', '/api/messages', post)
  t.ok((await check(201, 'POST', '/api/messages', post)).headers.has('idempotency-replayed'))
  await check(422, 'POST', '/api/messages', { ...post, body: { text: 'another' } })
  await check(400, 'POST', '/api/messages', { token, body: { text: ' ' } })
  await check(400, 'POST', '/api/messages', { ...post, headers: { 'idempotency-key': 'a b' } })
  await check(401, 'POST', '/api/messages', { ...post, token: 'x' })
  t.ok((await check(200, 'GET', '/api/messages?limit=1')).headers.has('x-event-cursor'))
  for (const query of ['limit=0', 'wait=1', 'after_id=1&before_id=2']) {
    await check(400, 'GET', `/api/messages?${query}`)
  }
  await check(400, 'GET', '/api/events?since=x')
  await check(200, 'PATCH', `/api/messages/${id}`, { token, body: { text: 'hello again' } })
  await check(200, 'DELETE', `/api/messages/${id}`, { token })
  await check(404, 'DELETE', `/api/messages/${id}`, { token })
})

t.test('responses beyond a rate limit match the document', async (t) => {
  const { call, conforms, register } = await startConforming(t)
  const { token } = await register()
  const text = { body: { text: 'hello' } }
  const { body } = await call('POST', '/api/messages', { token, ...text })
  for (const [method, path, options] of [
    ['POST', '/api/messages', text],
    ['PATCH', `/api/messages/${body.id}`, text],
    ['GET', '/api/sessions', {}]
  ] as const) {
    const answers = await Promise.all(
      Array.from({ length: 40 }, () => call(method, path, { token, ...options }))
    )
    conforms(
      answers.find(({ status }) => status === 429)!,
      method,
      path
    )
  }
})

t.test('responses of the probes and of the document itself match the document', async (t) => {
  const { app, check } = await startConforming(t)
  await check(200, 'GET', '/api/openapi.json')
  await check(200, 'GET', '/health/readyz')
  app.drain.hasBegun = true
  await check(503, 'GET', '/health/readyz')
})
