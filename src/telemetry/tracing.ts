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
 * Parses a `traceparent` header (https://www.w3.org/TR/trace-context/#traceparent-header).
 * @returns undefined if it is not valid
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

/** The diagnostics channels that opentelemetry.ts subscribes to. Without a subscriber they cost nothing. */
export const channels = {
  /** A statement, from waiting for a connection to the last row. */
  sql: tracingChannel<unknown, { text: string }>('chat-backend:sql'),
  /** A post that waits to be written, identified by an object. */
  waiting: channel('chat-backend:waiting'),
  /** A batch of posts. */
  batch: tracingChannel<unknown, { posts: object[] }>('chat-backend:batch')
}

/** Runs `work` and publishes it on a channel. */
export const traced = <Message extends object, Result>(
  channel: TracingChannel<unknown, Message>,
  message: Message,
  work: () => Promise<Result>
): Promise<Result> => (channel.hasSubscribers ? channel.tracePromise(work, message) : work())
