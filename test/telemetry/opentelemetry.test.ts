import { once } from 'node:events'
import { createServer } from 'node:http'
import { type AddressInfo } from 'node:net'
import { json } from 'node:stream/consumers'
import t, { type Test } from 'tap'
import { readTraceparent } from '../../src/telemetry/tracing.ts'
import { startService } from '../helpers/app.ts'
import { externalEngines, startServer } from '../helpers/server.ts'
import { createDatabase } from '../helpers/database.ts'
import { waitUntil } from '../helpers/raw.ts'

const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736'
const SPAN = '00f067aa0ba902b7'
const traceparent = `00-${TRACE}-${SPAN}-01`

interface Attribute {
  key: string
  value: { stringValue?: string; intValue?: number }
}
interface Span {
  name: string
  kind: number
  traceId: string
  spanId: string
  parentSpanId?: string
  attributes: Attribute[]
  links?: { traceId: string; spanId: string }[]
  status: { code: number }
}

/** A collector of traces, which keeps what it gets. */
async function startCollector(t: Test) {
  const spans: Span[] = []
  const services = new Set<string | undefined>()
  const bodies: string[] = []
  const server = createServer(async (request, response) => {
    const body = (await json(request)) as {
      resourceSpans: { resource: { attributes: Attribute[] }; scopeSpans: { spans: Span[] }[] }[]
    }
    t.equal(request.url, '/v1/traces')
    bodies.push(JSON.stringify(body))
    for (const { resource, scopeSpans } of body.resourceSpans) {
      services.add(resource.attributes.find(({ key }) => key === 'service.name')?.value.stringValue)
      for (const scope of scopeSpans) spans.push(...scope.spans)
    }
    response.setHeader('content-type', 'application/json').end('{}')
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, spans, services, bodies }
}

const attribute = (span: Span | undefined, name: string) => {
  const value = span?.attributes.find(({ key }) => key === name)?.value
  return value?.stringValue ?? value?.intValue
}

t.test('traceparent is parsed as specified by the W3C', async (t) => {
  t.strictSame(readTraceparent(traceparent), { traceId: TRACE, spanId: SPAN, traceFlags: 1 })
  t.match(readTraceparent(`cc-${TRACE}-${SPAN}-00-what-the-future-brings`), { traceId: TRACE, traceFlags: 0 })
  for (const bad of [
    '',
    'x',
    traceparent.toUpperCase(),
    `ff-${TRACE}-${SPAN}-01`,
    `00-${TRACE}-${SPAN}-01-more`,
    `00-${TRACE}-${SPAN}`,
    `00-${TRACE}-${SPAN}-1`,
    ` ${traceparent}`,
    `00-${'0'.repeat(32)}-${SPAN}-01`,
    `00-${TRACE}-${'0'.repeat(16)}-01`,
    `00-${TRACE}0-${SPAN}-01`,
    `cc-${TRACE}-${SPAN}-01x`,
    `${traceparent}, ${traceparent}`
  ]) {
    t.equal(readTraceparent(bad), undefined, bad)
  }
})

t.test('log lines of a request have the trace context that the caller sent, if any', async (t) => {
  const { call, logs, app } = await startService(t, { LOG_REQUESTS: 'all' })
  const linesOf = async (path: string, headers: Record<string, string>) => {
    const { headers: answer } = await call('GET', path, { headers })
    const own = () => logs.filter(({ requestId }) => requestId === answer.get('x-request-id'))
    await waitUntil('it is logged', () => own().some(({ msg }) => msg === 'request completed'))
    return own()
  }
  app.drain.hasBegun = true // so that readyz is an error, which has a line of its own
  for (const [path, count] of [
    ['/health/livez', 1],
    ['/health/readyz', 2],
    ['/nowhere', 1],
    ['/%zz', 1]
  ] as const) {
    const lines = await linesOf(path, { traceparent })
    t.equal(lines.length, count, path)
    for (const line of lines) t.match(line, { trace_id: TRACE, span_id: SPAN })
    for (const headers of [{}, { traceparent: 'nonsense' }]) {
      for (const line of await linesOf(path, headers as Record<string, string>)) {
        t.notOk('trace_id' in line || 'span_id' in line)
      }
    }
  }
})

t.test(
  'requests, statements and commands have spans, a batch links to its posts, and no span has a secret',
  async (t) => {
    const collector = await startCollector(t)
    const { app, call, register, logs } = await startService(t, {
      OTEL_EXPORTER_OTLP_ENDPOINT: collector.url
    })
    const { token, nickname } = await register()
    const { status, headers } = await call('POST', '/api/messages', {
      token,
      body: { text: 'a secret text' },
      headers: { traceparent }
    })
    t.equal(status, 201)
    await call('POST', '/api/login', { body: { nickname, password: 'wrong horse' } })
    await call('GET', '/api/sessions', { token })
    await call('GET', '/nowhere?secret')
    app.drain.hasBegun = true
    await call('GET', '/health/readyz')
    await app.close()

    t.strictSame([...collector.services], ['chat-backend'])
    const { spans } = collector
    const post = spans.find(({ traceId, kind }) => traceId === TRACE && kind === 2)
    t.match(post, { name: 'POST /api/messages', parentSpanId: SPAN })
    t.equal(attribute(post, 'http.request.method'), 'POST')
    t.equal(attribute(post, 'http.route'), '/api/messages')
    t.equal(attribute(post, 'http.response.status_code'), 201)
    t.ok(
      spans.some(
        (span) =>
          span.parentSpanId === post?.spanId &&
          attribute(span, 'db.system.name') === 'redis' &&
          span.name === 'MGET'
      ),
      'the session was looked for in Redis'
    )
    const line = logs.find(
      ({ msg, requestId }) => msg === 'request completed' && requestId === headers.get('x-request-id')
    )
    t.match(line, { trace_id: TRACE, span_id: post?.spanId }, 'the log tells the span')

    const batch = spans.find(
      ({ name, links }) => name === 'write messages' && links?.some(({ spanId }) => spanId === post?.spanId)
    )
    t.equal(attribute(batch, 'chat.batch.messages'), 1)
    const insert = spans.find(
      (span) => span.parentSpanId === batch?.spanId && attribute(span, 'db.system.name') === 'postgresql'
    )
    t.match(attribute(insert, 'db.query.text'), /insert into chat_message/)
    const login = spans.find(({ name }) => name === 'POST /api/login')
    t.ok(
      spans.some(
        (span) =>
          span.parentSpanId === login?.spanId && /from chat_user/.test(`${attribute(span, 'db.query.text')}`)
      )
    )
    t.ok(
      spans.some(({ name, kind }) => name === 'GET' && kind === 2),
      'an unknown address is not told'
    )
    t.match(
      spans.find(({ name }) => name === 'GET /health/readyz'),
      { status: { code: 2 } },
      'a failure of ours is one'
    )

    const everything = collector.bodies.join()
    for (const secret of [
      token,
      'correct horse',
      'wrong horse',
      'a secret text',
      nickname,
      'nowhere',
      'Bearer',
      '$2b$'
    ]) {
      t.notOk(everything.includes(secret), `no ${secret}`)
    }
  }
)

t.test('an unreachable collector costs one log line and nothing else', async (t) => {
  const server = startServer(t, {
    ...externalEngines(),
    POSTGRES_DB: await createDatabase(t),
    OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:1',
    OTEL_EXPORTER_OTLP_TIMEOUT: '200',
    OTEL_BSP_SCHEDULE_DELAY: '50'
  })
  const url = await server.ready
  const complaints = () => server.log.filter((line) => line.startsWith('trace export failed: '))
  await waitUntil('the failure is logged', async () => {
    t.equal((await fetch(`${url}/api/messages`)).status, 200)
    return complaints().length > 0
  })
  for (const until = performance.now() + 1000; performance.now() < until;) await fetch(`${url}/api/messages`)
  server.child.kill('SIGTERM')
  t.equal(await server.exited, 0)
  t.equal(complaints().length, 1)
})

t.test("the SDK's own variables apply, and unsent spans are sent at shutdown", async (t) => {
  const collector = await startCollector(t)
  const env = {
    ...externalEngines(),
    POSTGRES_DB: await createDatabase(t),
    OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
    OTEL_SERVICE_NAME: 'chat-blue'
  }
  const server = startServer(t, env)
  await fetch(`${await server.ready}/health/livez`)
  server.child.kill('SIGTERM')
  t.equal(await server.exited, 0)
  t.ok(collector.spans.some(({ name }) => name === 'GET /health/livez'))
  t.strictSame([...collector.services], ['chat-blue'])

  const silent = startServer(t, { ...env, OTEL_TRACES_SAMPLER: 'always_off' })
  const before = collector.spans.length
  await fetch(`${await silent.ready}/health/livez`)
  silent.child.kill('SIGTERM')
  t.equal(await silent.exited, 0)
  t.equal(collector.spans.length, before)
})
