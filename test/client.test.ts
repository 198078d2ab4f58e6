import { readFileSync } from 'node:fs'
import createClient from 'openapi-fetch'
import openapiTypescript, { astToString } from 'openapi-typescript'
import t from 'tap'
import type { paths } from '../client/api.d.ts'
import { startService } from './helpers/app.ts'

t.test('client/api.d.ts is up to date with the service', async (t) => {
  const { call } = await startService(t)
  const types = astToString(await openapiTypescript((await call('GET', '/api/openapi.json')).body))
  const committed = readFileSync(new URL('../client/api.d.ts', import.meta.url), 'utf8')
  t.ok(types.length > 10_000)
  t.equal(
    committed.slice(committed.indexOf('*/') + 2).trim(),
    types.trim(),
    'else: npm start, and npm run client beside it'
  )
})

// `npm run lint` checks the types: each line after `@ts-expect-error` must be wrong.
t.test('a client with these types works, and wrong calls do not compile', async (t) => {
  const { url } = await startService(t)
  const anyone = createClient<paths>({ baseUrl: url })
  const { data: account } = await anyone.POST('/api/register', {
    body: { nickname: 'alice', password: 'correct horse' }
  })
  t.equal(account?.nickname, 'alice')
  // @ts-expect-error: an account has no such field
  t.equal(account?.nick, undefined)

  const alice = createClient<paths>({ baseUrl: url, headers: { authorization: `Bearer ${account?.token}` } })
  const { data: message } = await alice.POST('/api/messages', {
    body: { text: 'hello' },
    params: { header: { 'Idempotency-Key': 'one' } }
  })
  t.match(message, { text: 'hello', nickname: 'alice' })
  const { data: edited } = await alice.PATCH('/api/messages/{id}', {
    params: { path: { id: message?.id ?? 0 } },
    body: { text: 'hello all' }
  })
  t.equal(edited?.text, 'hello all')
  const { data: list, response } = await anyone.GET('/api/messages', { params: { query: { after_id: 0 } } })
  t.strictSame(list, [edited])
  t.match(response.headers.get('x-event-cursor'), /^\d+$/)
  t.match((await anyone.GET('/api/messages')).data, [edited], 'nothing must be asked for')

  // @ts-expect-error: a message is a text
  const { data, error } = await alice.POST('/api/messages', { body: { text: 1 } })
  t.equal(data, undefined)
  t.match(error, {
    error: 'message text must be a string without NUL',
    code: 'text_invalid',
    requestId: String
  })
  // @ts-expect-error: an error has no such field
  t.equal(error?.message, undefined)
  const {
    error: refused,
    response: { status }
  } = await anyone.POST('/api/messages', { body: { text: 'hello' } })
  t.match({ status, refused }, { status: 401, refused: { code: 'authorization_missing' } })
})
