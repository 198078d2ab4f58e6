import type { IncomingMessage } from 'node:http'
import type { FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { Busy, type ClientError, EncodedBody, ExpectationFailed, InvalidHttp } from '../errors/catalogue.ts'
import type { Connections } from '../http/connections.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** Whether its connection is beyond the limit, so that an event stream must end immediately. */
    isBeyondLimit: boolean
  }
  interface FastifyContextConfig {
    /** Also served on connections beyond the limit, so that a full process is not killed as a dead one. */
    isHealth?: boolean
  }
}

/** Counts the Host lines. `headers` has only the first of them. Takes 50 ns. */
function countHosts({ rawHeaders }: IncomingMessage): number {
  let count = 0
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i]
    if (name?.length === 4 && name.toLowerCase() === 'host') count++
  }
  return count
}

/** Checks a request against the rules of HTTP, before its body is read. */
function violation({ raw, is404, otherMethods }: FastifyRequest): ClientError | undefined {
  const { expect, 'transfer-encoding': transferEncoding } = raw.headers
  const hosts = countHosts(raw)
  if (hosts > 1 || (hosts === 0 && raw.httpVersion === '1.1')) return new InvalidHttp() // RFC 9112, 3.2
  if (raw.httpVersion === '1.1' && expect !== undefined && !/(^|\W)100-continue($|\W)/i.test(expect)) {
    return new ExpectationFailed()
  }
  if (is404 && !otherMethods) return undefined // It is refused anyway.
  if (transferEncoding === undefined || transferEncoding.toLowerCase() === 'chunked') return undefined
  // Where such a body ends is unknown (RFC 9112, 6.3).
  if (!/(^|[\s,])chunked$/i.test(transferEncoding)) return new InvalidHttp()
  // Node decodes the chunks of `gzip, chunked`, but does not decompress them (RFC 9112, 6.1).
  return new EncodedBody()
}

/**
 * Refuses requests that violate HTTP, and anything but health checks and event streams on connections beyond
 * the limit. Streams are left to their route, because browsers never reconnect after an error.
 */
export default fp<{ connections: Connections }>(
  async (app, { connections }) => {
    app.decorateRequest('isBeyondLimit', false)
    app.addHook('onRequest', (request, reply, done) => {
      const { isHealth, isStream } = request.routeOptions.config ?? {}
      request.isBeyondLimit = connections.isBeyondLimit(request.raw.socket)
      if (request.isBeyondLimit) reply.header('connection', 'close')
      const isRefused = request.isBeyondLimit && !isHealth && !isStream
      done(isRefused ? new Busy() : violation(request))
    })
    app.addHook('onClose', async () => connections.close())
  },
  { name: 'http-rules' }
)
