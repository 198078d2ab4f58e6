import { once } from 'node:events'
import { connect as dial } from 'node:net'
import t, { type Test } from 'tap'
import { HEADERS } from '../src/plugins/security-headers.ts'
import { startService } from './helpers/app.ts'
import { connect } from './helpers/database.ts'
import { startModerated } from './helpers/people.ts'
import { openRaw } from './helpers/raw.ts'
import { openStream } from './helpers/stream.ts'

/** Sends bytes as they are and resolves to everything that comes back until the other side ends. */
async function speak(url: string, bytes: string): Promise<string> {
  const socket = dial(Number(new URL(url).port), '127.0.0.1')
  let answer = ''
  socket
    .on('data', (data) => {
      answer += data
    })
    .on('error', () => {})
  socket.write(bytes)
  await once(socket, 'close')
  return answer
}

t.test('an unknown path is a 404 in the usual shape', async (t) => {
  const { call } = await startService(t)
  for (const path of [
    '/web',
    '/web/index.html',
    '/web/tsconfig.json',
    '/api',
    '/api/',
    '/api/messages%2F',
    '/api/messages/x',
    '/api/messages//x/',
    '/api/messages/-1',
    '/api/Messages',
    '/api/register/x',
    '/health',
    '/..%2f..%2fetc/passwd'
  ]) {
    const { status, headers, body } = await call('GET', path)
    t.equal(status, 404, path)
    t.equal(headers.get('content-type'), 'application/json; charset=utf-8')
    t.strictSame(body, {
      error: 'resource not found',
      code: 'not_found',
      requestId: headers.get('x-request-id')
    })
  }
})

t.test('an id may be as long as a URL', async (t) => {
  const { call, register } = await startService(t)
  const { token } = await register()
  for (const [method, path, code] of [
    ['GET', `/api/messages/${'9'.repeat(101)}`, 'message_not_found'],
    ['GET', `/api/messages/${'0'.repeat(10_000)}`, 'message_not_found'],
    ['PATCH', `/api/messages/${'9'.repeat(101)}`, 'message_not_found'],
    ['DELETE', `/api/sessions/${'x'.repeat(101)}`, 'session_unknown'],
    ['GET', `/api/messages/${'x'.repeat(101)}`, 'not_found'],
    ['GET', `/api/sessions/${'x'.repeat(101)}`, 'method_not_allowed']
  ] as const) {
    const options = { token, ...(method === 'PATCH' && { body: { text: 'x' } }) }
    t.match(await call(method, path, options), { body: { code } }, `${method} ${path.slice(0, 20)}`)
  }
})

t.test('a known path with another method is 405 with an Allow header', async (t) => {
  const { call, url } = await startService(t)
  for (const [path, allow] of [
    ['/api/register', 'POST'],
    ['/api/login', 'POST'],
    ['/api/logout', 'POST'],
    ['/api/messages', 'GET, HEAD, POST'],
    ['/api/messages/1', 'DELETE, GET, HEAD, PATCH'],
    ['/api/events', 'GET'],
    ['/api/password', 'PUT'],
    ['/api/sessions', 'DELETE, GET, HEAD'],
    ['/api/sessions/x', 'DELETE'],
    ['/health/livez', 'GET, HEAD'],
    ['/health/readyz', 'GET, HEAD']
  ] as const) {
    for (const method of ['GET', 'POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS', 'PROPFIND'].filter(
      (method) => !allow.split(', ').includes(method)
    )) {
      const { status, headers, body } = await call(method, path)
      t.equal(status, 405, `${method} ${path}`)
      t.equal(headers.get('allow')?.split(', ').sort().join(', '), allow)
      t.match(body, { error: 'method not allowed', code: 'method_not_allowed' })
    }
  }
  for (const raw of ['{', 'x'.repeat(70_000)]) {
    t.match(
      await call('PUT', '/api/login', { raw, headers: { 'content-type': 'text/plain' } }),
      { status: 405 },
      'whatever the body is'
    )
    t.match(await call('POST', '/nowhere', { raw }), { status: 404 }, 'and so is 404')
  }
  t.match(
    await speak(url, 'TRACE /api/messages HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n'),
    /^HTTP\/1\.1 405 /
  )
})

t.test('an id of 2^53 or more never stands for another one', async (t) => {
  const service = await startModerated(t)
  const { app, call, client, registerAs } = service
  const admin = await registerAs('admin')
  const highest = Number.MAX_SAFE_INTEGER
  app.room.watch.stop() // It would have the sequences continue after these ids.
  await client.query(
    `insert into chat_user (id, nickname, password_hash, created_at) values (${highest}, 'the last', '', now());
    insert into chat_message (id, user_id, text, created_at) values
      (${highest}, ${admin.userId}, 'the last', now()), (${highest + 1}, ${admin.userId}, 'beyond', now());
    insert into chat_report (id, message_id, user_id, reason) values (${highest}, ${highest}, ${highest}, '');
    insert into chat_token (id, user_id, slot, name, digest) values (${highest}, ${admin.userId}, 1, '', '')`
  )
  const rows = () =>
    Promise.all(
      [
        'chat_user',
        'chat_message',
        'chat_report',
        'chat_token',
        'chat_restriction',
        'chat_moderation_log'
      ].map(async (table) => (await client.query(`select * from ${table}`)).rows)
    )
  const before = await rows()

  const codes = { messages: 'message_not_found', users: 'user_unknown', reports: 'report_unknown' }
  const body = { text: 'hello', reason: 'spam', kind: 'mute', role: 'moderator' }
  const { paths } = (await call('GET', '/api/openapi.json')).body
  for (const [path, methods] of Object.entries<Record<string, { parameters?: object[] }>>(paths)) {
    const [, kind = ''] = /^\/api\/(\w+)\/{id}/.exec(path) ?? []
    if (kind === '' || kind === 'sessions') continue
    for (const method of Object.keys(methods)) {
      for (const id of [`${highest + 1}`, '09007199254740993', '9223372036854775808', '9'.repeat(90)]) {
        t.match(
          await call(method.toUpperCase(), path.replace('{id}', id), {
            token: admin.token,
            ...(method !== 'get' && { body })
          }),
          { status: 404, body: { code: codes[kind as keyof typeof codes] ?? 'api_token_unknown' } },
          `${method} ${path} of ${id}`
        )
      }
    }
  }
  t.strictSame(await rows(), before, 'nothing has changed')
  t.match(await call('GET', `/api/messages/${highest}`), { status: 200, body: { text: 'the last' } })
  const { body: page } = await call('GET', `/api/messages?before_id=${'9'.repeat(20)}`)
  t.match(page, [{ id: highest }], 'but a cursor may be any number')
})

t.test('duplicate and trailing slashes are ignored in a path, but not in a query', async (t) => {
  const { app, call, register, post } = await startService(t, { MAX_STREAMS: 0 }) // so that a stream ends
  const { token } = await register()
  const { id } = await post(token, 'hello')
  // Not by `call`, whose URL parser may tidy the path before it is sent.
  const send = async (method: 'GET' | 'HEAD' | 'PATCH' | 'DELETE' | 'PUT', url: string, payload?: object) => {
    const { statusCode, headers, body } = await app.inject({
      method,
      url,
      headers: { authorization: `Bearer ${token}` },
      ...(payload && { payload })
    })
    return { statusCode, headers, body }
  }
  for (const path of [
    '/api/messages',
    '/health/livez',
    '/health/readyz',
    '/api/events',
    '/api/sessions',
    '/metrics',
    '/',
    '/web/main.js',
    '/api/openapi.json'
  ]) {
    const spellings = [
      `${path}/`,
      `${path}//`,
      `/${path}`,
      path.replaceAll('/', '//'),
      `${path.replaceAll('/', '///')}/`
    ]
    for (const url of spellings) t.equal((await send('GET', url)).statusCode, 200, url)
  }
  for (const url of ['//api///messages/?limit=1', '/api/messages//?limit=1']) {
    t.match(await send('GET', url), { statusCode: 200, body: /"hello"/ }, url)
    t.match(await send('HEAD', url), { statusCode: 200, body: '' }, url)
  }
  t.match(await send('GET', '//api//messages//?limit=//1'), { statusCode: 400 }, 'a query stays as it is')
  t.match(await send('PATCH', `/api//messages/${id}/`, { text: 'http://x//' }), {
    statusCode: 200,
    body: /http:\/\/x\/\//
  })
  t.match(await send('PUT', `//api/messages/${id}//`), {
    statusCode: 405,
    headers: { allow: 'PATCH, DELETE' }
  })
  t.match(await send('HEAD', '/api//login/'), { statusCode: 405, headers: { allow: 'POST' } })
  for (const url of ['//nowhere/', '/api//', '/api/messages//x/', '/web/']) {
    t.match(await send('GET', url), { statusCode: 404 }, url)
  }
  t.match(await send('DELETE', `//api/messages//${id}//`), { statusCode: 200, body: /"deleted"/ })
  t.match(await call('GET', '//api///messages/'), { status: 200, body: [] }, 'and over the wire')
})

/** Starts the service. @returns a function that posts a body as it is */
async function startPosting(t: Test) {
  const { call, register } = await startService(t)
  const { token } = await register()
  return (raw: string, headers: Record<string, string> = { 'content-type': 'application/json' }) =>
    call('POST', '/api/messages', { token, raw, headers })
}

t.test('a body that is not a JSON object is refused', async (t) => {
  const post = await startPosting(t)
  for (const [raw, error, code] of [
    ['{"text":', 'invalid JSON payload', 'invalid_json'],
    ['{"text":"x"} trailing', 'invalid JSON payload', 'invalid_json'],
    ["{'text':'x'}", 'invalid JSON payload', 'invalid_json'],
    ['\ufeff{', 'invalid JSON payload', 'invalid_json'],
    ['['.repeat(30_000), 'invalid JSON payload', 'invalid_json'],
    ['', 'invalid JSON payload', 'body_invalid'],
    ['  ', 'invalid JSON payload', 'body_invalid'],
    ['null', 'invalid JSON payload', 'body_invalid'],
    ['[]', 'invalid JSON payload', 'body_invalid'],
    ['[{"text":"x"}]', 'invalid JSON payload', 'body_invalid'],
    ['"text"', 'invalid JSON payload', 'body_invalid'],
    ['1', 'invalid JSON payload', 'body_invalid'],
    ['['.repeat(20_000) + ']'.repeat(20_000), 'invalid JSON payload', 'body_invalid'],
    ['{"__proto__":{"text":"inherited"}}', 'message text must be provided', 'text_missing']
  ] as const) {
    const { status, body } = await post(raw)
    t.equal(status, 400, raw.slice(0, 40))
    t.match(body, { error, code })
  }
})

t.test('a body with __proto__, a constructor or deep nesting does no harm', async (t) => {
  const post = await startPosting(t)
  for (const raw of [
    '{"text":"kept","__proto__":{"admin":true}}',
    '{"text":"kept","constructor":{"prototype":{"admin":true}}}',
    `{"text":"kept","deep":${'{"a":'.repeat(5000)}1${'}'.repeat(5000)}}`
  ]) {
    const { status, body } = await post(raw)
    t.equal(status, 201, raw.slice(0, 60))
    t.equal(body.text, 'kept')
  }
  t.equal(({} as { admin?: boolean }).admin, undefined, 'nothing was polluted')
})

t.test('a body must be application/json', async (t) => {
  const post = await startPosting(t)
  for (const type of [
    'text/plain',
    'application/x-www-form-urlencoded',
    'multipart/form-data; boundary=x',
    'application/xml',
    'nonsense',
    'application/jsonx'
  ]) {
    t.match(
      await post('{"text":"x"}', { 'content-type': type }),
      { status: 415, body: { error: 'request body must be sent as application/json', code: 'not_json' } },
      type
    )
  }
  const json = { 'content-type': 'application/json; charset=utf-8' }
  t.equal((await post('{"text":"x"}', json)).status, 201)
})

t.test('a body must not be encoded', async (t) => {
  const post = await startPosting(t)
  for (const raw of ['{"text":"x"}', '\x1f\x8b\x08']) {
    const { status, headers, body } = await post(raw, { 'content-encoding': 'gzip' })
    t.match(
      { status, body },
      {
        status: 415,
        body: { error: 'request body must be sent without Content-Encoding', code: 'encoded_body' }
      }
    )
    t.equal(headers.get('accept-encoding'), 'identity')
  }
  t.equal((await post('{"text":"x"}', { 'content-encoding': 'identity' })).status, 201)
})

t.test('a body has at most 64 KiB', async (t) => {
  const post = await startPosting(t)
  const padded = (bytes: number) => `{"text":"x","pad":"${'x'.repeat(bytes - 21)}"}`
  t.equal((await post(padded(64 * 1024))).status, 201, '64 KiB')
  t.match(await post(padded(64 * 1024 + 1)), {
    status: 413,
    body: { error: 'request body is larger than 64 KiB', code: 'body_too_large' }
  })
})

t.test('a request without a body is accepted, whatever its Content-Type', async (t) => {
  const { url, register, post } = await startService(t)
  const ask = async (request: string, token: string, headers: string, body = '') => {
    const answer = await speak(
      url,
      `${request} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${token}\r\nconnection: close\r\n${headers}\r\n${body}`
    )
    const [head = '', json = ''] = answer.split('\r\n\r\n')
    return { status: Number(head.split(' ')[1]), body: json === '' ? undefined : JSON.parse(json) }
  }
  const types = [
    '',
    'content-type:\r\n',
    ...[
      'application/json',
      'application/x-www-form-urlencoded',
      'text/plain;charset=utf-8',
      'multipart/form-data',
      'nonsense',
      'a/b/c'
    ].map((type) => `content-type: ${type}\r\n`)
  ]
  const framings = [
    ['', ''],
    ['content-length: 0\r\n', ''],
    ['transfer-encoding: chunked\r\n', '0\r\n\r\n']
  ] as const
  for (const type of types) {
    for (const [framing, body] of framings) {
      const what = `${type}${framing}`.replaceAll('\r\n', ', ')
      const { token } = await register()
      const { id } = await post(token, 'hello')
      t.match(
        await ask(`DELETE /api/messages/${id}`, token, type + framing, body),
        { status: 200, body: { id } },
        `DELETE a message with ${what}`
      )
      t.match(
        await ask('DELETE /api/sessions', token, type + framing, body),
        { status: 204 },
        `end other sessions with ${what}`
      )
      t.match(
        await ask('DELETE /api/sessions/none', token, type + framing, body),
        { status: 404, body: { code: 'session_unknown' } },
        `end a session with ${what}`
      )
      const missing = await ask('POST /api/messages', token, type + framing, body)
      t.match(
        missing,
        { status: 400, body: { error: (await ask('POST /api/messages', token, '')).body.error } },
        `POST a message with ${what}`
      )
      t.match(
        await ask('POST /api/logout', token, type + framing, body),
        { status: 204 },
        `log out with ${what}`
      )
      t.match(
        await ask('POST /api/messages', token, type + framing, body),
        { status: 401, body: { code: 'session_not_found' } },
        'and the session is over'
      )
    }
  }

  const { token } = await register()
  for (const type of types.filter((type) => !type.includes('json'))) {
    for (const [framing, body] of [
      ['content-length: 1\r\n', 'x'],
      ['transfer-encoding: chunked\r\n', '1\r\nx\r\n0\r\n\r\n']
    ] as const) {
      const answer = await ask('POST /api/logout', token, type + framing, body)
      t.match(
        answer,
        { status: 415, body: { code: 'not_json' } },
        `but a body is refused with ${`${type}${framing}`.replaceAll('\r\n', ', ')}`
      )
    }
  }
})

t.test('every response has a request id: the one that was sent if valid, else a new one', async (t) => {
  const { call } = await startService(t)
  for (const path of ['/health/livez', '/nowhere', '/api/messages?limit=x', '/api/messages/%zz']) {
    const sent = await call('GET', path, { headers: { 'x-request-id': 'trace-1:a/b.c=' } })
    t.equal(sent.headers.get('x-request-id'), 'trace-1:a/b.c=', path)
    const ids = new Set<string | null>()
    for (const id of ['', 'x'.repeat(129), 'two words', '<script>', '{"a":1}']) {
      const { headers } = await call('GET', path, { headers: { 'x-request-id': id } })
      t.match(headers.get('x-request-id'), /^[0-9a-f-]{36}$/, `not ${id.slice(0, 20)}`)
      ids.add(headers.get('x-request-id'))
    }
    t.equal(ids.size, 5, 'each its own')
  }
  t.match(await call('GET', '/api/messages/%zz', { headers: { 'x-request-id': 'abc' } }), {
    status: 400,
    body: { error: 'request URL is not valid', code: 'invalid_url', requestId: 'abc' }
  })
})

t.test('every response tells browsers that it is data and not a page', async (t) => {
  const { call } = await startService(t)
  for (const path of [
    '/health/livez',
    '/nowhere',
    '/api/messages?limit=x',
    '/api/messages/%zz',
    '/api/messages'
  ]) {
    const { headers } = await call('GET', path)
    for (const [name, value] of Object.entries(HEADERS)) {
      t.equal(headers.get(name), value, `${name} of ${path}`)
    }
    t.notOk(headers.has('access-control-allow-origin'), 'no other origin may read it')
    t.notOk(headers.has('server') || headers.has('x-powered-by'))
  }
})

t.test(
  'pages of other origins may use the service where CORS_ORIGIN lists them, and only those',
  async (t) => {
    const { call, url } = await startService(t, {
      CORS_ORIGIN: 'https://chat.example, http://localhost:3000'
    })
    const preflight = {
      'access-control-request-method': 'POST',
      'access-control-request-headers': 'authorization,content-type,idempotency-key'
    }
    for (const origin of ['https://chat.example', 'http://localhost:3000']) {
      const asked = await call('OPTIONS', '/api/messages', { headers: { origin, ...preflight } })
      t.match(
        { status: asked.status, allowed: asked.headers.get('access-control-allow-headers') },
        { status: 204, allowed: /authorization.*idempotency-key/ }
      )
      for (const [method, path, status] of [
        ['GET', '/api/messages', 200],
        ['GET', '/nowhere', 404],
        ['PUT', '/nowhere', 404],
        ['PUT', '/api/messages', 405],
        ['GET', '/api/messages?limit=x', 400]
      ] as const) {
        const answer = await call(method, path, { headers: { origin } })
        const { headers } = answer
        t.equal(answer.status, status, `${method} ${path}`)
        t.equal(headers.get('access-control-allow-origin'), origin, `${method} ${path}`)
        t.match(headers.get('access-control-expose-headers'), /x-event-cursor/)
      }
      t.equal(
        (await openStream(t, url, '', { origin })).response.headers['access-control-allow-origin'],
        origin,
        'and the events'
      )
    }
    for (const origin of ['https://evil.example', 'https://chat.example.evil.example', 'null']) {
      t.notOk(
        (await call('GET', '/api/messages', { headers: { origin } })).headers.has(
          'access-control-allow-origin'
        ),
        origin
      )
      const asked = await call('OPTIONS', '/api/messages', { headers: { origin, ...preflight } })
      t.equal(asked.status, 204)
      t.notOk(asked.headers.has('access-control-allow-origin'), origin)
    }
  }
)

t.test('OPTIONS that is no preflight is answered the same with CORS_ORIGIN and without', async (t) => {
  const origin = 'https://chat.example'
  for (const config of [{ CORS_ORIGIN: origin }, {}]) {
    const service = await startService(t, config)
    for (const headers of [{}, { origin }, { 'access-control-request-method': 'POST' }]) {
      const known = await service.call('OPTIONS', '/api/messages', { headers })
      t.match(known, { status: 405, body: { code: 'method_not_allowed' } }, JSON.stringify(headers))
      t.match(known.headers.get('allow'), /GET.*POST/)
      const unknown = await service.call('OPTIONS', '/nowhere', { headers })
      t.match(unknown, { status: 404, body: { code: 'not_found' } }, JSON.stringify(headers))
    }
    const { body } = await service.call('GET', '/metrics')
    t.match(body, /_count{method="OPTIONS",route="unknown",status="404"} 3/)
  }
})

t.test('bytes that are not HTTP get an error in the usual shape', async (t) => {
  const { url } = await startService(t)
  for (const [bytes, status, code] of [
    ['NONSENSE\r\n\r\n', 400, 'invalid_http'],
    ['GET / HTTP/1.1\r\nhost: x\r\nbad header\r\n\r\n', 400, 'invalid_http'],
    ['GET /health/livez HTTP/1.1\r\nconnection: close\r\n\r\n', 400, 'invalid_http'],
    ['GET /health/livez HTTP/1.1\r\nhost: x\r\nHOST: x\r\nconnection: close\r\n\r\n', 400, 'invalid_http'],
    ['GET /health/livez HTTP/1.0\r\nhost: x\r\nhost: y\r\n\r\n', 400, 'invalid_http'],
    [
      'GET /health/livez HTTP/1.1\r\nhost: x\r\nexpect: miracles\r\nconnection: close\r\n\r\n',
      417,
      'expectation_failed'
    ],
    [`GET / HTTP/1.1\r\nhost: x\r\nbig: ${'x'.repeat(40_000)}\r\n\r\n`, 431, 'headers_too_large']
  ] as const) {
    const answer = await speak(url, bytes)
    t.ok(answer.startsWith(`HTTP/1.1 ${status} `), `${status} for ${bytes.slice(0, 20)}`)
    const [head = '', body = ''] = answer.split('\r\n\r\n')
    t.match(head, /content-type: application\/json; charset=utf-8/)
    t.match(JSON.parse(body), { error: String, code, requestId: /^[0-9a-f-]{36}$/ })
  }
  for (const head of [
    'HTTP/1.0',
    'HTTP/1.0\r\nexpect: miracles',
    'HTTP/1.1\r\nhost:\r\nconnection: close',
    'HTTP/1.1\r\nhost: x\r\nexpect: 100-Continue\r\nconnection: close'
  ]) {
    t.match(
      await speak(url, `GET /health/livez ${head}\r\n\r\n`),
      /HTTP\/1\.1 200 OK/,
      `but ${head} is a request`
    )
  }
})

t.test('a request that takes longer than 10 s to arrive is refused, and not carried out later', async (t) => {
  const { url, register, post, call } = await startService(t)
  const { token } = await register()
  const body = '{"text":"too late"}'
  const message = [
    'POST /api/messages HTTP/1.1',
    'host: x',
    `authorization: Bearer ${token}`,
    'content-type: application/json',
    `content-length: ${body.length}`,
    '',
    body
  ].join('\r\n')
  const started = performance.now()
  await Promise.all(
    [10, 60, message.length - 1].map(async (length) => {
      const { socket, until, closed } = await openRaw(t, url)
      socket.write(message.slice(0, length))
      t.match(await until(/"code":"request_timeout"/), /^HTTP\/1\.1 408 /, `${length} bytes`)
      t.ok(performance.now() - started < 15_000, 'in time')
      socket.write(message.slice(length) + message)
      t.match(await closed, /^HTTP(?![^]*HTTP)/, 'one answer')
    })
  )
  await post(token, 'in time')
  const page = (await call('GET', '/api/messages')).body as { text: string }[]
  t.strictSame(
    page.map(({ text }) => text),
    ['in time']
  )
})

t.test('an internal error is a 500 that reveals nothing internal', async (t) => {
  const { call, database, logs } = await startService(t)
  await (
    await connect(t, database)
  ).query(
    `create function fail() returns trigger language plpgsql as $$ begin raise 'secret_table is broken'; end $$;
    create trigger fail before insert on chat_user for each row execute function fail()`
  )
  const { status, body, headers } = await call('POST', '/api/register', {
    body: { nickname: 'alice', password: 'correct horse' }
  })
  t.equal(status, 500)
  t.strictSame(body, {
    error: 'something went wrong on our side',
    code: 'internal_error',
    requestId: headers.get('x-request-id')
  })
  const line = logs.find(({ level }) => level === 50)
  t.match(
    line,
    {
      requestId: body.requestId,
      error: { type: 'error', message: /secret_table is broken/, stack: String }
    },
    'the log tells it'
  )
})
