import { say } from './i18n.js'

/** @typedef {import('../schemas/messages.ts').Message} Message */
/** @typedef {{ token?: string | undefined, body?: object, key?: string, signal?: AbortSignal, patienceMs?: number }} Options */

/** Why something did not work, as a sentence for the reader: the service's own, where it gave one. */
export class Failure extends Error {
  /** @param {string} sentence @param {number} [status] 0: no answer came @param {string} [code] @param {number} [retryMs] */
  constructor (sentence, status = 0, code = '', retryMs = 0) {
    super(sentence)
    this.status = status
    this.retryMs = retryMs
    /** Whether the same may work later. */
    this.isTemporary = status === 0 || status === 408 || status === 429 || status >= 500
    /** Whether the token is worth nothing; a wrong password is no such case. */
    this.isSessionOver = status === 401 && code !== 'invalid_credentials'
  }
}
const unreachable = () => new Failure(say(navigator.onLine ? 'unreachable' : 'offline'))

/**
 * Asks the service. Resolves to an answer of success whose body is still to be read.
 * @param {string} method @param {string} path @param {Options} [options] @throws {Failure}
 */
export async function ask (method, path, { token, body, key, signal, patienceMs = 10_000 } = {}) {
  const response = await fetch(`api/${path}`, {
    method,
    headers: { ...(token && { authorization: `Bearer ${token}` }), ...(body && { 'content-type': 'application/json' }), ...(key && { 'idempotency-key': key }) },
    body: body ? JSON.stringify(body) : null,
    signal: AbortSignal.any([...signal ? [signal] : [], ...patienceMs ? [AbortSignal.timeout(patienceMs)] : []])
  }).catch((error) => { throw signal?.aborted ? error : unreachable() })
  if (response.ok) return response
  /** @type {Partial<import('../schemas/errors.ts').ErrorAnswer>} */
  const { error = `${say('strange')} (${response.status})`, code } = await response.json().catch(() => ({}))
  throw new Failure(error, response.status, code, (Number(response.headers.get('retry-after')) || 0) * 1000)
}

/** @param {Response} response @throws {Failure} when it is cut off */
const read = (response) => response.status === 204 ? undefined : response.json().catch(() => { throw unreachable() })

/** The same, with the body read. @param {string} method @param {string} path @param {Options} [options] @throws {Failure} */
export const call = async (method, path, options) => read(await ask(method, path, options))

/**
 * A page of the room, and where its events go on. @param {string} query such as `before_id=5` @param {Options} [options]
 * @returns {Promise<{ messages: Message[], cursor: number }>} @throws {Failure}
 */
export async function readPage (query, options) {
  const response = await ask('GET', `messages?${query}`, options)
  return { messages: await read(response), cursor: Number(response.headers.get('x-event-cursor')) }
}
