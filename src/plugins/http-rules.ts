import type { FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { Busy, type ClientError, EncodedBody, ExpectationFailed, InvalidHttp } from '../errors/catalogue.ts'
import type { Connections } from '../http/connections.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Also served on connections beyond the limit, so that a full process is not killed as a dead one. */
    isHealth?: boolean
  }
}

/** Checks a request against the rules of HTTP, before its body is read. */
function violation({ raw, is404, otherMethods }: FastifyRequest): ClientError | undefined {
  const { host, expect, 'transfer-encoding': transferEncoding } = raw.headers
  if (raw.httpVersion === '1.1' && host === undefined) return new InvalidHttp()
  if (raw.httpVersion === '1.1' && expect !== undefined && !/(^|\W)100-continue($|\W)/i.test(expect)) {
    return new ExpectationFailed()
  }
  if (is404 && !otherMethods) return undefined // It is refused anyway.
  // Node decodes the chunks of `gzip, chunked`, but does not decompress them (RFC 9112, 6.1).
  if (transferEncoding !== undefined && transferEncoding.toLowerCase() !== 'chunked') return new EncodedBody()
  return undefined
}

/**
 * Refuses requests that violate HTTP, and anything but health checks on connections beyond the limit.
 */
export default fp<{ connections: Connections }>(
  async (app, { connections }) => {
    app.addHook('onRequest', (request, reply, done) => {
      const isBeyondLimit = connections.isBeyondLimit(request.raw.socket)
      if (isBeyondLimit) reply.header('connection', 'close')
      const isRefused = isBeyondLimit && !request.routeOptions.config?.isHealth
      done(isRefused ? new Busy() : violation(request))
    })
    app.addHook('onClose', async () => connections.close())
  },
  { name: 'http-rules' }
)
