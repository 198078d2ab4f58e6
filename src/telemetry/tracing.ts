import { channel, tracingChannel, type TracingChannel } from 'node:diagnostics_channel'
import type { IncomingMessage } from 'node:http'

declare module 'fastify' {
  interface FastifyInstance {
    beginSpan?: (request: IncomingMessage) => TraceIds
  }
}

/** A span, and the trace that it belongs to. */
export interface TraceIds {
  traceId: string
  spanId: string
  traceFlags: number
}

/**
 * Reads a header `traceparent` (https://www.w3.org/TR/trace-context/#traceparent-header). @returns undefined
 * when it is not valid
 */
export function readTraceparent(header: string): TraceIds | undefined {
  const [, version, traceId = '', spanId = '', flags = '', more] =
    /^([\da-f]{2})-([\da-f]{32})-([\da-f]{16})-([\da-f]{2})(-.*)?$/.exec(header) ?? []
  const isValid =
    version !== undefined &&
    version !== 'ff' &&
    !(version === '00' && more) &&
    !/^0+$/.test(traceId) &&
    !/^0+$/.test(spanId)
  return isValid ? { traceId, spanId, traceFlags: parseInt(flags, 16) } : undefined
}

/** What src/telemetry.ts listens to. As long as nobody does, a channel costs nothing. */
export const channels = {
  /** A statement, from the wait for a connection to the last row. */
  sql: tracingChannel<unknown, { text: string }>('chat-backend:sql'),
  /** A message that waits to be written, named by an object of its own. */
  waiting: channel('chat-backend:waiting'),
  /** A batch of those. */
  batch: tracingChannel<unknown, { posts: object[] }>('chat-backend:batch')
}

/** Does the work, and lets a channel know. */
export const traced = <Message extends object, Result>(
  channel: TracingChannel<unknown, Message>,
  message: Message,
  work: () => Promise<Result>
): Promise<Result> => (channel.hasSubscribers ? channel.tracePromise(work, message) : work())
