import fastJson from 'fast-json-stringify'
import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify'
import { ErrorResponse } from '../../schemas/errors.ts'
import * as errors from './catalogue.ts'
import { http } from '../lib/node-http.ts'
import type { RawResponse } from '../http/connections.ts'
import { requestId } from '../lib/request-id.ts'

declare module 'fastify' {
  interface FastifyReply {
    /** The code of the error in the response. */
    errorCode?: string
  }
}

const errorJson = fastJson(ErrorResponse)

// Errors of Fastify and Node for requests that never reach a handler, by their codes.
const refusals: Record<string, new () => errors.ClientError> = {
  FST_ERR_BAD_URL: errors.InvalidUrl,
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: errors.InvalidHttp,
  FST_ERR_CTP_BODY_TOO_LARGE: errors.BodyTooLarge,
  FST_ERR_CTP_INVALID_JSON_BODY: errors.InvalidJson,
  HPE_HEADER_OVERFLOW: errors.HeadersTooLarge,
  ERR_HTTP_REQUEST_TIMEOUT: errors.RequestTimeout
}

function visible(error: FastifyError): errors.ClientError {
  if (error instanceof errors.ClientError) return error
  const isTheirs = error.statusCode !== undefined && error.statusCode < 500
  return new (refusals[error.code] ?? (isTheirs ? errors.InvalidHttp : errors.InternalError))()
}

/**
 * The parts of an error that may be logged. The detail of a database error may not: it quotes rows, password
 * hashes included.
 */
const loggable = ({ name, code, message, stack, cause }: FastifyError): object => ({
  type: name,
  code,
  message,
  stack,
  ...(cause instanceof Error && { cause: loggable(cause as FastifyError) })
})

/**
 * Sends every error in the same shape. Unexpected ones are logged and become `internal_error`.
 */
export function answerError(error: FastifyError, request: FastifyRequest, reply: FastifyReply): void {
  const { statusCode, code, message, retryAfter = 1 } = visible(error)
  reply.errorCode = code
  if (statusCode >= 500) request.log.error({ error: loggable(error) }, message)
  if (statusCode === 401) reply.header('www-authenticate', 'Bearer')
  if (code === 'encoded_body') reply.header('accept-encoding', 'identity')
  const isTemporary = statusCode === 503 || statusCode === 429
  if (isTemporary && !reply.hasHeader('retry-after')) reply.header('retry-after', retryAfter)
  const answer: ErrorResponse = { error: message, code, requestId: request.id }
  reply
    .code(statusCode)
    .headers({ 'x-request-id': request.id, 'content-type': 'application/json; charset=utf-8' })
    .send(errorJson(answer))
}

/** The response to bytes that never became a request: not HTTP, too large or too late. */
export function clientErrorResponse({ code: reason }: NodeJS.ErrnoException): RawResponse {
  const error = new (refusals[reason ?? ''] ?? errors.InvalidHttp)()
  const { statusCode, code, message } = error
  const answer: ErrorResponse = { error: message, code, requestId: requestId() }
  const body = errorJson(answer)
  const lines = [
    `HTTP/1.1 ${statusCode} ${http.STATUS_CODES[statusCode]}`,
    'connection: close',
    `x-request-id: ${answer.requestId}`,
    'content-type: application/json; charset=utf-8',
    `content-length: ${Buffer.byteLength(body)}`,
    '',
    body
  ]
  return { error, bytes: lines.join('\r\n') }
}
