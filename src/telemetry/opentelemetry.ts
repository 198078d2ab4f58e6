import { AsyncLocalStorage } from 'node:async_hooks'
import { tracingChannel } from 'node:diagnostics_channel'
import type { IncomingMessage } from 'node:http'
import { ROOT_CONTEXT, type Span, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api'
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http'
import {
  defaultResource,
  detectResources,
  envDetector,
  resourceFromAttributes
} from '@opentelemetry/resources'
import { BasicTracerProvider, BatchSpanProcessor } from '@opentelemetry/sdk-trace-base'
import type { FastifyInstance } from 'fastify'
import { withTimeout } from '../lib/timeout.ts'
import type { Log } from '../lib/logger.ts'
import { routeOf } from './route.ts'
import { channels, readTraceparent, type TraceIds } from './tracing.ts'
import { version } from '../lib/version.ts'

const FLUSH_MS = 5000

/** Exports spans, and logs one line for each outage of the collector. */
class Exporter extends OTLPTraceExporter {
  #log: Log
  #isAway = false

  constructor(url: string, log: Log) {
    super({ url })
    this.#log = log
  }

  override export(...[spans, done]: Parameters<OTLPTraceExporter['export']>): void {
    super.export(spans, (result) => {
      const isAway = result.error !== undefined
      if (isAway && !this.#isAway) {
        this.#log.warn(`trace export failed: ${result.error?.message}`)
      }
      if (!isAway && this.#isAway) this.#log.info('trace export works again')
      this.#isAway = isAway
      done(result)
    })
  }
}

/**
 * Exports spans by OTLP over HTTP: one for each request, with its SQL statements and Redis commands below,
 * and one for each batch of posts, with links to the requests in it. The SDK's own variables (`OTEL_…`) hold
 * the other settings.
 *
 * Nothing that a client sent is in a span: the route's pattern replaces the path, and there are no values of
 * statements and no keys of Redis, which may contain a token. Of an error there is only the class, because
 * its message may quote such values.
 */
export function startTelemetry(app: FastifyInstance, endpoint: string): void {
  const resource = defaultResource()
    .merge(resourceFromAttributes({ 'service.name': 'chat-backend', 'service.version': version }))
    .merge(detectResources({ detectors: [envDetector] }))
  const exporter = new Exporter(`${endpoint.replace(/\/$/, '')}/v1/traces`, app.log)
  const provider = new BasicTracerProvider({ resource, spanProcessors: [new BatchSpanProcessor(exporter)] })
  const tracer = provider.getTracer('chat-backend', version)
  const active = new AsyncLocalStorage<Span | undefined>()
  const spans = new WeakMap<object, Span>()

  app.decorate('beginSpan', (request: IncomingMessage): TraceIds => {
    const {
      method = '',
      headers: { traceparent }
    } = request
    const parent = typeof traceparent === 'string' ? readTraceparent(traceparent) : undefined
    const context = parent ? trace.setSpanContext(ROOT_CONTEXT, { ...parent, isRemote: true }) : ROOT_CONTEXT
    const span = tracer.startSpan(
      method,
      { kind: SpanKind.SERVER, attributes: { 'http.request.method': method } },
      context
    )
    spans.set(request, span)
    return span.spanContext()
  })
  app.addHook('onRequest', (request, _reply, done) => active.run(spans.get(request.raw), done))
  // Body chunks arrive in another async context.
  app.addHook('preValidation', (request, _reply, done) => active.run(spans.get(request.raw), done))
  app.addHook('onResponse', (request, reply, done) => {
    const route = routeOf(request)
    const span = spans.get(request.raw)?.setAttribute('http.response.status_code', reply.statusCode)
    if (route) span?.updateName(`${request.method} ${route}`).setAttribute('http.route', route)
    if (reply.statusCode >= 500) span?.setStatus({ code: SpanStatusCode.ERROR })
    span?.end()
    done()
  })

  const nothing = () => {} // The types require all five handlers.
  const ends = {
    start: nothing,
    end: nothing,
    asyncStart: nothing,
    error: (message: object & { error: unknown }) => {
      spans
        .get(message)
        ?.setStatus({ code: SpanStatusCode.ERROR })
        .setAttribute(
          'error.type',
          message.error instanceof Error ? message.error.constructor.name : 'unknown'
        )
    },
    asyncEnd: (message: object) => {
      spans.get(message)?.end()
    }
  }

  /** Creates a child of the active span for each event of a channel. */
  function below<Message extends object>(
    describe: (message: Message) => { name: string; attributes: Record<string, string> }
  ) {
    return {
      ...ends,
      start: (message: Message) => {
        const parent = active.getStore()
        if (!parent) return
        const { name, attributes } = describe(message)
        spans.set(
          message,
          tracer.startSpan(name, { kind: SpanKind.CLIENT, attributes }, trace.setSpan(ROOT_CONTEXT, parent))
        )
      }
    }
  }
  const sql = below(({ text }: { text: string }) => {
    const operation = /\w+/.exec(text)?.[0].toUpperCase() ?? 'SQL'
    return {
      name: operation,
      attributes: {
        'db.system.name': 'postgresql',
        'db.operation.name': operation,
        'db.query.text': text.trim()
      }
    }
  })
  const redis = below(({ command }: { command: string }) => ({
    name: command.toUpperCase(),
    attributes: { 'db.system.name': 'redis', 'db.operation.name': command.toUpperCase() }
  }))
  const redisChannel = tracingChannel<unknown, { command: string }>('ioredis:command')

  const note = (post: unknown) => {
    const span = active.getStore()
    if (span) spans.set(post as object, span)
  }
  const startBatch = (message: { posts: object[] }) => {
    const links = message.posts
      .flatMap((post) => spans.get(post) ?? [])
      .map((span) => ({ context: span.spanContext() }))
    if (links.length === 0) return undefined
    const span = tracer.startSpan(
      'write messages',
      { links, attributes: { 'chat.batch.messages': message.posts.length } },
      ROOT_CONTEXT
    )
    spans.set(message, span)
    return span
  }

  channels.sql.subscribe(sql)
  redisChannel.subscribe(redis)
  channels.waiting.subscribe(note)
  channels.batch.start.bindStore(active, startBatch)
  channels.batch.subscribe(ends)
  app.addHook('onClose', async () => {
    channels.sql.unsubscribe(sql)
    redisChannel.unsubscribe(redis)
    channels.waiting.unsubscribe(note)
    channels.batch.start.unbindStore(active)
    channels.batch.unsubscribe(ends)
    // Do not let a missing collector delay the shutdown.
    await withTimeout(FLUSH_MS, provider.shutdown()).catch(() => {})
  })
}
