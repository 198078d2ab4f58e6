import type { TSchema } from '@sinclair/typebox'
import { ErrorResponse, type ValidationMessage } from '../../schemas/errors.ts'
import { http } from '../lib/node-http.ts'

/** An error for clients: an HTTP status, a code for programs and a sentence for people. */
export abstract class ClientError extends Error {
  abstract readonly statusCode: number
  abstract readonly code: string
  /** `Retry-After` in seconds, if it is known to be other than one second. */
  readonly retryAfter: number | undefined = undefined
}

const define = <Status extends number>(status: Status, code: string, sentence: string) =>
  class extends ClientError {
    readonly statusCode = status
    readonly code = code
    constructor(options?: ErrorOptions) {
      super(sentence, options)
    }
  }

/** Defines an error whose sentence says when it ends, if it does. */
const defineUntil = <Status extends number>(status: Status, code: string, sentence: string) =>
  class extends ClientError {
    readonly statusCode = status
    readonly code = code
    constructor(until?: Date) {
      super(until ? `${sentence} until ${until.toISOString()}` : sentence)
    }
  }

/** A value that a schema rejects, with the code and sentence of the schema's `errorMessages`. */
export class ValidationFailed extends ClientError {
  readonly statusCode = 400
  readonly code: string
  constructor({ code, message }: ValidationMessage) {
    super(message)
    this.code = code
  }
}

/** All errors that validation by these schemas can produce, for `failures`. */
export const validationFailures = (...schemas: TSchema[]) =>
  [...new Set(schemas.flatMap(messagesOf))].map(({ code, message }) => define(400, code, message))

function messagesOf({ errorMessages = {}, properties = {} }: TSchema): ValidationMessage[] {
  return [
    ...Object.values<ValidationMessage>(errorMessages),
    ...Object.values<TSchema>(properties).flatMap(messagesOf)
  ]
}

export const InvalidJson = define(400, 'invalid_json', 'invalid JSON payload')
export const InvalidUrl = define(400, 'invalid_url', 'request URL is not valid')
export const ReplyToNotFound = define(
  400,
  'reply_to_not_found',
  'replyTo must be the id of an existing message'
)
export const InvalidHttp = define(400, 'invalid_http', 'request is not valid HTTP')
export const UntilPast = define(400, 'until_past', 'until must be in the future')
export const AuthorizationMissing = define(401, 'authorization_missing', 'authorization header is missing')
export const AuthorizationMalformed = define(
  401,
  'authorization_malformed',
  "authorization header must be in the format 'Bearer <token>'"
)
export const SessionNotFound = define(401, 'session_not_found', 'session not found')
export const UserNotFound = define(401, 'user_not_found', 'user not found')
export const InvalidCredentials = define(401, 'invalid_credentials', 'invalid credentials')
export const Banned = defineUntil(403, 'banned', 'you are banned')
export const Muted = defineUntil(403, 'muted', 'you are muted')
export const ReadOnly = define(403, 'read_only', 'the room is read-only')
export const SessionRequired = define(
  403,
  'session_required',
  'an API token cannot do this: log in with nickname and password'
)
export const RouteNotFound = define(404, 'not_found', 'resource not found')
export const SessionUnknown = define(404, 'session_unknown', 'you have no such session')
export const ApiTokenUnknown = define(404, 'api_token_unknown', 'you have no such API token')
export const Forbidden = define(403, 'forbidden', 'you are not allowed to do this')
export const UserProtected = define(403, 'user_protected', 'only admins may act on moderators and admins')
export const UserUnknown = define(404, 'user_unknown', 'there is no such user')
export const ReportUnknown = define(404, 'report_unknown', 'there is no such open report')
export const MessageNotFound = define(404, 'message_not_found', 'message not found')
export const MethodNotAllowed = define(405, 'method_not_allowed', 'method not allowed')
export const RequestTimeout = define(408, 'request_timeout', 'request took too long to arrive')
export const NicknameTaken = define(409, 'nickname_taken', 'nickname is already taken')
export const NicknameTooSimilar = define(
  409,
  'nickname_too_similar',
  'nickname is too similar to an existing one'
)
export const TooManyApiTokens = define(
  409,
  'too_many_api_tokens',
  'you have too many API tokens: revoke one first'
)
export const OwnAccount = define(409, 'own_account', 'you cannot do this to your own account')
export const LastAdmin = define(409, 'last_admin', 'the last admin cannot be removed')
export const BodyTooLarge = define(413, 'body_too_large', 'request body is larger than 64 KiB')
export const NotJson = define(415, 'not_json', 'request body must be sent as application/json')
export const EncodedBody = define(415, 'encoded_body', 'request body must be sent without Content-Encoding')
export const ExpectationFailed = define(
  417,
  'expectation_failed',
  'the Expect header of the request is not supported'
)
export const IdempotencyKeyReused = define(
  422,
  'idempotency_key_reused',
  'Idempotency-Key was already used for a different message'
)
export const RateLimited = define(429, 'rate_limited', 'too many requests, try again later')

/** @param retryAfter seconds until the author may post again */
export class SlowMode extends ClientError {
  readonly statusCode = 429
  readonly code = 'slow_mode'
  override readonly retryAfter: number
  constructor(retryAfter = 1) {
    super('the room is in slow mode, wait before you post again')
    this.retryAfter = Math.max(1, retryAfter)
  }
}
export const TooManyLongPolls = define(
  429,
  'too_many_long_polls',
  'too many long polls from your network, try again later'
)
export const HeadersTooLarge = define(431, 'headers_too_large', 'request headers are too large')
export const ClientGone = define(499, 'client_gone', 'client closed the connection before the response')
export const InternalError = define(500, 'internal_error', 'something went wrong on our side')
export const DatabaseUnavailable = define(503, 'database_unavailable', 'database is not ready')
export const RedisUnavailable = define(503, 'redis_unavailable', 'redis is not ready')
export const Busy = define(503, 'busy', 'service is busy, try again soon')
export const ShuttingDown = define(503, 'shutting_down', 'shutting down')

/** Errors that any route can return. */
const always = [InvalidHttp, RequestTimeout, ExpectationFailed, HeadersTooLarge, InternalError]
/** Errors of bodies that are not JSON. Any request but GET may have a body. */
export const bodyFailures = [InvalidJson, BodyTooLarge, NotJson, EncodedBody]
/** Errors of paths with a parameter that is not valid. */
export const addressFailures = [InvalidUrl, RouteNotFound]
export const tokenFailures = [AuthorizationMissing, AuthorizationMalformed]
/** Errors of routes that accept both session tokens and API tokens. */
export const authorFailures = [...tokenFailures, SessionNotFound, UserNotFound]
export const sessionFailures = [...authorFailures, SessionRequired]
export const moderatorFailures = [...sessionFailures, Forbidden]
/** Errors of posts and edits. */
export const speechFailures = [Muted, ReadOnly]
export const outages = [DatabaseUnavailable, RedisUnavailable, Busy]

/**
 * Builds the `response` schemas for the errors of a route, and for those that any route can return: one for
 * each status, with its errors as examples.
 */
export function failures<Status extends number>(
  ...known: (new () => ClientError & { statusCode: Status })[]
) {
  const answers: Record<number, typeof ErrorResponse> = {}
  for (const Failure of [...always, ...known]) {
    const { statusCode, code, message } = new Failure()
    const examples = {
      ...answers[statusCode]?.['x-examples'],
      [code]: { value: { error: message, code, requestId: '2b51b0d4-6a9c-4a6e-9a53-0f4f3b0e7a31' } }
    }
    answers[statusCode] = {
      ...ErrorResponse,
      'x-response-description': `${http.STATUS_CODES[statusCode]}: ${Object.keys(examples).join(', ')}.`,
      'x-examples': examples
    }
  }
  // The loop above has added one for each of these statuses.
  return answers as Record<Status | InstanceType<(typeof always)[number]>['statusCode'], typeof ErrorResponse>
}
