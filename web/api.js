import { say, sayError } from './i18n.js'

/** @typedef {import('../schemas/messages.ts').Message} Message */

/**
 * @typedef {object} Options
 * @property {string | undefined} [token]
 * @property {object} [body]
 * @property {string} [key] the Idempotency-Key
 * @property {AbortSignal} [signal]
 * @property {number} [timeoutMs] how long nothing may arrive
 */

/** The code of a response that is not one of the service. */
const UNEXPECTED = 'unexpected'
/** The code of a failure because the browser has no network. */
export const OFFLINE = 'offline'
/** A timer cannot wait for 25 days. */
const MAX_RETRY_SECONDS = 3600

/** How late the time in a response may be: it has no fractions of a second, and has travelled. */
const CLOCK_LAG_MS = 2000
/** How far the clock of the service is ahead of this one. */
let clockOffsetMs = 0

/** The time by the clock of the service, in milliseconds since 1970, once there was an answer to a token. */
export const serviceTime = () => Date.now() + clockOffsetMs

/** @param {string | null} date the `Date` header of a response that no cache has kept */
function readClock(date) {
  const offset = Date.parse(date ?? '') - Date.now()
  const isJustLater = offset <= clockOffsetMs && offset > clockOffsetMs - CLOCK_LAG_MS
  if (!isJustLater && !Number.isNaN(offset)) clockOffsetMs = offset
}

/** Why something failed, as a sentence for the reader. */
export class Failure extends Error {
  /**
   * @param {string} sentence
   * @param {number} [status] 0: there was no response
   * @param {string} [code]
   * @param {number} [retrySeconds] 0: the service did not say when to try again
   */
  constructor(sentence, status = 0, code = '', retrySeconds = 0) {
    super(sentence)
    this.status = status
    this.code = code
    this.retrySeconds = retrySeconds
    /** How long a timer should wait before it tries again. */
    this.retryMs = Math.min(retrySeconds, MAX_RETRY_SECONDS) * 1000
    /** Whether the same request may succeed later. */
    this.isTemporary = status === 0 || status === 408 || status === 429 || status >= 500
    /** Whether the token is no longer valid. Neither a wrong password nor a proxy's own 401 means that. */
    this.isSessionOver = status === 401 && code !== 'invalid_credentials' && code !== UNEXPECTED
  }

  static unreachable() {
    return navigator.onLine ? new Failure(say('unreachable')) : new Failure(say('offline'), 0, OFFLINE)
  }

  /** Something else than the service answered. @param {number} [status] */
  static unexpected(status) {
    const sentence = status ? `${say('unexpected')} (HTTP ${status})` : say('unexpected')
    return new Failure(sentence, status, UNEXPECTED)
  }
}

/**
 * Sends a request. Resolves to a successful response whose body is still to be read.
 * @param {string} method @param {string} path
 * @param {Omit<Options, 'timeoutMs'>} [options] @throws {Failure}
 */
export async function ask(method, path, { token, body, key, signal } = {}) {
  const request = fetch(`api/${path}`, {
    method,
    headers: {
      ...(token && { authorization: `Bearer ${token}` }),
      ...(body && { 'content-type': 'application/json' }),
      ...(key && { 'idempotency-key': key })
    },
    body: body ? JSON.stringify(body) : null,
    signal: signal ?? null
  })
  const response = await request.catch((error) => {
    throw signal?.aborted ? error : Failure.unreachable()
  })
  if (token) readClock(response.headers.get('date'))
  if (response.ok) return response
  const { error, code = '' } = Object(await response.json().catch(() => undefined))
  if (typeof error !== 'string' || !error || typeof code !== 'string') {
    throw Failure.unexpected(response.status)
  }
  const seconds = Math.max(Number(response.headers.get('retry-after')) || 0, 0)
  throw new Failure(sayError(code, error, seconds), response.status, code, seconds)
}

/**
 * Sends a request and reads the whole response. It may take any time, as long as something arrives.
 * @param {string} method @param {string} path @param {Options} [options]
 * @returns {Promise<{ headers: Headers, body: any }>} @throws {Failure}
 */
export async function read(method, path, { signal, timeoutMs = 10_000, ...options } = {}) {
  const silence = new AbortController()
  const giveUp = () => silence.abort()
  let timer = setTimeout(giveUp, timeoutMs)
  const signals = signal ? [signal, silence.signal] : [silence.signal]
  try {
    const response = await ask(method, path, { ...options, signal: AbortSignal.any(signals) })
    const { headers } = response
    if (response.status === 204) return { headers, body: undefined }
    let text = ''
    for await (const part of textOf(response)) {
      clearTimeout(timer)
      timer = setTimeout(giveUp, timeoutMs)
      text += part
    }
    return { headers, body: JSON.parse(text) }
  } catch (error) {
    if (error instanceof SyntaxError) throw Failure.unexpected()
    throw error instanceof Failure || signal?.aborted ? error : Failure.unreachable()
  } finally {
    clearTimeout(timer)
  }
}

/**
 * The text of a response, part by part. (Not every browser can iterate over a stream.)
 * @param {Response} response
 */
export async function* textOf({ body }) {
  if (!body) return
  /** @type {ReadableStreamDefaultReader<string>} */
  const reader = body.pipeThrough(/** @type {*} */ (new TextDecoderStream())).getReader()
  for (;;) {
    const { done, value } = await reader.read()
    if (done) return
    yield value
  }
}

/**
 * Sends a request and reads what it resolves to.
 * @param {string} method
 * @param {string} path
 * @param {Options} [options]
 * @throws {Failure}
 */
export const call = async (method, path, options) => (await read(method, path, options)).body

/**
 * A page of messages, and the cursor from which the events go on.
 * @param {string} query such as `before_id=5` @param {Options} [options]
 * @returns {Promise<{ messages: Message[], cursor: number }>} @throws {Failure}
 */
export async function readPage(query, options) {
  const { headers, body } = await read('GET', `messages?${query}`, options)
  if (!Array.isArray(body)) throw Failure.unexpected()
  return { messages: body, cursor: Number(headers.get('x-event-cursor')) }
}
