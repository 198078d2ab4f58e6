import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import t from 'tap'
import type { paths } from '../../client/api.d.ts'
import { ChatClient, ChatError } from '../../client/index.js'
import { startService } from '../helpers/app.ts'
import { startModerated } from '../helpers/people.ts'

/** What no method is for: a page for people, and the stream, which `follow()` reads. */
const OTHERS = ['getApiReference', 'streamEvents']

t.test('the client has a method for every route, which sends what the route takes', async (t) => {
  const { call } = await startService(t)
  const document: { paths: Record<string, Record<string, { operationId: string }>> } = (
    await call('GET', '/api/openapi.json')
  ).body
  const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, { operationId }]) => ({ method, path, operationId }))
  )
  t.ok(operations.length > 30)
  const sent: { method: string; url: string; body: unknown }[] = []
  const client = new ChatClient({
    url: 'https://chat.example/base/',
    fetch: async (url, { method = '', body } = {}) => {
      sent.push({ method, url: `${url}`, body: body ? JSON.parse(`${body}`) : undefined })
      return new Response(null, { status: 204 })
    }
  })
  for (const { method, path, operationId } of operations) {
    if (OTHERS.includes(operationId)) continue
    const call: unknown = Reflect.get(client, operationId)
    if (typeof call !== 'function') {
      t.fail(`client/index.js has no ${operationId} for ${method} ${path}`)
      continue
    }
    await call({ id: '1/2', limit: 5, skipped: undefined })
    const url = `https://chat.example/base${path.replace('{id}', '1%2F2')}`
    const rest = { ...(!path.includes('{id}') && { id: '1/2' }), limit: 5 }
    const query = new URLSearchParams(Object.entries(rest).map(([name, value]) => [name, `${value}`]))
    const expected =
      method === 'get'
        ? { method: 'GET', url: `${url}?${query}`, body: undefined }
        : { method: method.toUpperCase(), url, body: rest }
    t.strictSame(sent.at(-1), expected, operationId)
  }
})

t.test('the typed client works with the service', async (t) => {
  const { url } = await startService(t)
  const chat = new ChatClient({ url })
  const account = await chat.register({ nickname: 'alice', password: 'correct horse' })
  // @ts-expect-error: an account has no such field
  t.equal(account.nick, undefined)
  chat.token = account.token
  t.match(await chat.getMe(), { nickname: 'alice', role: 'member' })

  const message = await chat.postMessage({ text: 'hello' })
  t.match(message, { nickname: 'alice', text: 'hello' })
  t.match(await chat.editMessage({ id: message.id, text: 'hello all' }), { text: 'hello all' })
  t.match(await chat.listMessages({ after_id: 0 }), [{ text: 'hello all' }])
  const { data, headers } = await chat.request('get', '/api/messages', { limit: 1 })
  t.match(data, [{ text: 'hello all' }])
  t.match(headers.get('x-event-cursor'), /^\d+$/)
  t.strictSame(await chat.deleteMessage({ id: message.id }), { id: message.id, status: 'deleted' })
  t.match(await chat.getMetrics(), /^# HELP/)
  t.equal(await chat.logout(), undefined)

  // @ts-expect-error: a message is a text
  await t.rejects(chat.postMessage({ text: 1 }), { status: 401, code: 'session_not_found' })
  // @ts-expect-error: only a post takes a key
  await chat.listMessages({}, { idempotencyKey: 'one' })
  // @ts-expect-error: no such path
  const path: keyof paths = '/api/nothing'
  await t.rejects(chat.request('get', path as '/api/messages', {}), { status: 404, code: 'not_found' })
})

t.test('an error has the status, the code, the request id and Retry-After', async (t) => {
  const { url, registerAs } = await startModerated(t)
  const { token } = await registerAs('moderator')
  await new ChatClient({ url, token }).updateRoom({ slowModeSeconds: 600 })
  const member = new ChatClient({ url, token: (await registerAs('member')).token })
  const { id } = await member.postMessage({ text: 'one' })
  const error: unknown = await member.postMessage({ text: 'two' }).catch((error) => error)
  t.ok(error instanceof ChatError, 'it does not wait for ten minutes')
  t.match(error, { name: 'ChatError', status: 429, code: 'slow_mode', requestId: /./ })
  t.match(error, { message: 'the room is in slow mode, wait before you post again' })
  t.ok(error instanceof ChatError && error.retryAfter! > 500 && error.retryAfter! <= 600)
  await t.rejects(member.getMessage({ id: id + 1 }), { status: 404, code: 'message_not_found' })

  const proxy = new ChatClient({
    url,
    fetch: async () => new Response('<h1>Bad Gateway</h1>', { status: 502 })
  })
  await t.rejects(proxy.listMessages(), { status: 502, code: 'unexpected_response' })
  const portal = new ChatClient({ url, fetch: async () => new Response('<h1>Log in</h1>') })
  await t.rejects(portal.listMessages(), { status: 200, code: 'unexpected_response' })
  const hanging = new ChatClient({
    url,
    timeoutMs: 10,
    fetch: async (_url, { signal } = {}) => {
      signal?.throwIfAborted()
      await new Promise((resolve) => signal?.addEventListener('abort', resolve))
      throw signal?.reason
    }
  })
  await t.rejects(hanging.listMessages(), { status: 0, code: 'timeout' })
  const reason = new Error('enough')
  await t.rejects(hanging.listMessages({}, { signal: AbortSignal.abort(reason) }), reason)
})

t.test('a post whose answer was lost is sent again, and posted once', async (t) => {
  const { url, register } = await startService(t)
  const { token } = await register()
  let requests = 0
  const lossy: typeof fetch = async (...request) => {
    const response = await fetch(...request)
    if (++requests === 1) throw new TypeError('terminated')
    if (requests === 2) return new Response('', { status: 503, headers: { 'retry-after': '0' } })
    return response
  }
  const chat = new ChatClient({ url, token, fetch: lossy })
  const message = await chat.postMessage({ text: 'once' })
  t.equal(requests, 3)
  await chat.postMessage({ text: 'twice' })
  await chat.postMessage({ text: 'twice' })
  const texts = (await chat.listMessages()).map(({ text }) => text)
  t.strictSame(texts, ['once', 'twice', 'twice'], 'two calls are two messages')

  const { id } = await chat.postMessage({ text: 'once more' }, { idempotencyKey: 'a' })
  t.match(await chat.postMessage({ text: 'once more' }, { idempotencyKey: 'a' }), { id })
  await t.rejects(chat.postMessage({ text: 'other' }, { idempotencyKey: 'a' }), {
    status: 422,
    code: 'idempotency_key_reused'
  })
  requests = 0
  await t.rejects(chat.editMessage({ id: message.id, text: 'x' }), { status: 0, code: 'network_error' })
  t.equal(requests, 1, 'only posts are sent again')
})

t.test('a redirected write is an error, because its answer would be that of a GET', async (t) => {
  const { url, register, post } = await startService(t)
  const { token } = await register()
  const { id } = await post(token, 'one')
  for (const status of [301, 302, 303, 307, 308]) {
    const server = createServer((request, response) => {
      response.writeHead(status, { location: `${url}${request.url}` }).end()
    })
    t.teardown(() => server.close())
    await once(server.listen(0, '127.0.0.1'), 'listening')
    const { port } = server.address() as AddressInfo
    const chat = new ChatClient({ url: `http://127.0.0.1:${port}`, token })
    const expected = { status, code: 'unexpected_response', isTemporary: false }
    await t.rejects(chat.postMessage({ text: 'two' }), expected)
    await t.rejects(chat.createApiToken({ name: 'bot' }), expected)
    await t.rejects(chat.deleteMessage({ id }), expected)
    t.match(await chat.listMessages(), [{ id, text: 'one' }], 'reading works')
  }
  // Browsers hide the status of a redirect, but not that there was a response.
  const browser = new ChatClient({ url, fetch: async () => Response.error() })
  await t.rejects(browser.postMessage({ text: 'two' }), {
    status: 0,
    code: 'unexpected_response',
    isTemporary: false
  })
})

t.test('a wrong URL, token or key throws at once and is never retried', async (t) => {
  for (const url of [
    'chat.example',
    '',
    '/base',
    'localhost:8080',
    'ftp://chat.example',
    'http://',
    'https://alice:secret@chat.example'
  ]) {
    t.throws(() => new ChatClient({ url }), TypeError, url)
  }
  for (const url of ['http://localhost:8080', 'https://chat.example/base//', new URL('http://[::1]:80')]) {
    t.doesNotThrow(() => new ChatClient({ url }), `${url}`)
  }

  let requests = 0
  const count: typeof fetch = async () => {
    requests++
    throw new TypeError('fetch failed')
  }
  for (const token of ['to…ken', 'to\nken']) {
    const chat = new ChatClient({ url: 'http://localhost', token, fetch: count })
    await t.rejects(chat.postMessage({ text: 'x' }), { name: 'TypeError', message: /token/ })
    await t.rejects(chat.follow().next(), { name: 'TypeError', message: /token/ })
    await t.rejects(chat.follow({ since: 1 }).next(), { name: 'TypeError', message: /token/ })
    const { message } = await chat.getMe().catch((error) => error)
    t.notMatch(message, token, 'an error may end up in a log')
  }
  const chat = new ChatClient({ url: 'http://localhost', fetch: count })
  for (const idempotencyKey of ['a\nb', 'a…b']) {
    const posted = chat.postMessage({ text: 'x' }, { idempotencyKey })
    await t.rejects(posted, { name: 'TypeError', message: /idempotency key/ })
  }
  t.equal(requests, 0)
})

t.test('in browsers, the URL may be relative to the page', async (t) => {
  const page = { baseURI: 'https://chat.example/page' }
  t.teardown(() => Reflect.deleteProperty(globalThis, 'document'))
  Object.defineProperty(globalThis, 'document', { value: page, configurable: true })
  const sent: string[] = []
  const fetch: typeof globalThis.fetch = async (url) => {
    sent.push(`${url}`)
    return new Response(null, { status: 204 })
  }
  for (const url of ['', '/base/']) await new ChatClient({ url, fetch }).logout()
  t.strictSame(sent, ['/api/logout', '/base/api/logout'])
})
