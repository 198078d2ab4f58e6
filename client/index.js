import { ChatError, toError, unexpected } from './error.js'
import { follow } from './follow.js'
import { backOffMs, sleep, Watch } from './wait.js'

/**
 * @import {
 *   ClientOptions, FollowEvent, FollowOptions, Input, Method, MethodOf, OptionsOf, Output, Path
 * } from './types.ts'
 */
/** @typedef {import('./types.ts').Message} Message */
/** @typedef {import('./types.ts').Room} Room */
/** @typedef {import('./types.ts').Schemas} Schemas All schemas of the API, by their names. */

export { ChatError }

/** 128 random bits. Not `crypto.randomUUID`, which pages have only over HTTPS. */
const randomKey = () =>
  Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join(
    ''
  )

/**
 * A client of chat-backend. Each method calls one route, takes the parameters and the properties of the body
 * as one object, and resolves to the body of the response. It rejects with a `ChatError`.
 */
export class ChatClient {
  /** A session token or an API token; undefined for anonymous requests. @type {string | undefined} */
  token
  #url
  #fetch
  #retryForMs
  #timeoutMs

  /** @param {ClientOptions} options @throws {TypeError} if `url` is not an address of the web */
  constructor({ url, token, retryForMs = 30_000, timeoutMs = 15_000, fetch = globalThis.fetch }) {
    this.#url = `${url}`.replace(/\/+$/, '')
    checkUrl(this.#url)
    this.token = token
    this.#retryForMs = retryForMs
    this.#timeoutMs = timeoutMs
    this.#fetch = fetch
  }

  /** Creates an account and a session. Set `token` to that of the response to use it. */
  register = this.#method('post', '/api/register')
  /** Creates a session. Set `token` to that of the response to use it. */
  login = this.#method('post', '/api/login')
  /** Ends the session of the token. */
  logout = this.#method('post', '/api/logout')
  /** Changes the password, which ends all other sessions. */
  changePassword = this.#method('put', '/api/password')
  /** Tells who the token belongs to, and what that user may do. */
  getMe = this.#method('get', '/api/me')
  /** Deletes the account with all its messages, for good. */
  deleteMe = this.#method('delete', '/api/me')

  /** Lists the sessions of the user. */
  listSessions = this.#method('get', '/api/sessions')
  /** Ends one session. */
  endSession = this.#method('delete', '/api/sessions/{id}')
  /** Ends all sessions but that of the token. */
  endOtherSessions = this.#method('delete', '/api/sessions')

  /** Creates an API token for a bot. It is shown only now. */
  createApiToken = this.#method('post', '/api/tokens')
  /** Lists the API tokens of the user. */
  listApiTokens = this.#method('get', '/api/tokens')
  /** Revokes an API token. */
  revokeApiToken = this.#method('delete', '/api/tokens/{id}')

  /** Lists messages, ascending by id: the newest, or those next to a cursor. */
  listMessages = this.#method('get', '/api/messages')
  /** Finds the newest messages with these words, ascending by id. */
  searchMessages = this.#method('get', '/api/search')
  /** Gets one message. */
  getMessage = this.#method('get', '/api/messages/{id}')
  /**
   * Posts a message, once: after a temporary failure it is sent again with the same `Idempotency-Key`, for up
   * to `retryForMs`. Pass an `idempotencyKey` of your own to repeat the post in another process.
   * @type {Method<'/api/messages', 'post'>}
   */
  postMessage = async (input, { signal, idempotencyKey = randomKey() } = {}) => {
    const giveUpAt = Date.now() + this.#retryForMs
    for (let failures = 1; ; failures++) {
      try {
        return (await this.request('post', '/api/messages', input, { signal, idempotencyKey })).data
      } catch (error) {
        if (!(error instanceof ChatError && error.isTemporary)) throw error
        const waitMs = backOffMs(failures, (error.retryAfter ?? 0) * 1000)
        if (Date.now() + waitMs > giveUpAt) throw error
        await sleep(waitMs, signal)
        signal?.throwIfAborted()
      }
    }
  }

  /** Replaces the text of a message. */
  editMessage = this.#method('patch', '/api/messages/{id}')
  /** Deletes a message. */
  deleteMessage = this.#method('delete', '/api/messages/{id}')
  /** Reports a message to the moderators. */
  reportMessage = this.#method('post', '/api/messages/{id}/report')

  /** Reads the settings of the room, and how many people are online. */
  showRoom = this.#method('get', '/api/room')
  /** Changes settings of the room. */
  updateRoom = this.#method('patch', '/api/room')

  /** Mutes or bans a user. */
  restrictUser = this.#method('put', '/api/users/{id}/restriction')
  /** Lifts the restriction of a user. */
  liftRestriction = this.#method('delete', '/api/users/{id}/restriction')
  /** Deletes all messages of a user. */
  deleteMessagesOfUser = this.#method('delete', '/api/users/{id}/messages')
  /** Gives a user a role. */
  setRole = this.#method('put', '/api/users/{id}/role')
  /** Lists the restrictions that are in force, newest first. */
  listRestrictions = this.#method('get', '/api/restrictions')
  /** Lists what moderators did, newest first. */
  listModerationLog = this.#method('get', '/api/moderation-log')
  /** Lists the open reports with their messages, newest first. */
  listReports = this.#method('get', '/api/reports')
  /** Closes a report. */
  closeReport = this.#method('delete', '/api/reports/{id}')

  /** Succeeds while the process responds. */
  getLiveness = this.#method('get', '/health/livez')
  /** Succeeds while the replica can do its work. */
  getReadiness = this.#method('get', '/health/readyz')
  /** Reads the metrics of the replica, in the format of Prometheus. */
  getMetrics = this.#method('get', '/metrics')
  /** Reads the OpenAPI document. */
  getOpenApi = this.#method('get', '/api/openapi.json')

  /**
   * Follows the room: lists the newest messages, then yields each event once and in order, through cuts and
   * restarts of the service, until the signal aborts or the loop ends.
   * @param {FollowOptions} [options]
   * @returns {AsyncGenerator<FollowEvent, void, undefined>}
   * @throws {ChatError} if the service refuses the first list or the cursor
   */
  follow(options = {}) {
    return follow(this, options)
  }

  /**
   * Calls a route once. The methods above are shorter; this one gives the headers of the response as well.
   * @template {Path} P
   * @template {MethodOf<P>} M
   * @param {M} method in lower case
   * @param {P} path as the OpenAPI document spells it: `/api/messages/{id}`
   * @param {Input<P, M>} input
   * @param {OptionsOf<P, M>} [options]
   * @returns {Promise<{ data: Output<P, M>, headers: Headers }>}
   * @throws {ChatError}
   * @throws {TypeError} for a token or a key that no header can carry
   */
  async request(method, path, input, options) {
    // The types know which routes take which options; here they are all the same.
    const { signal, idempotencyKey } = /** @type {{ signal?: AbortSignal, idempotencyKey?: string }} */ (
      options ?? {}
    )
    const { url, body, waitMs } = toRequest(method, path, input)
    const headersSent = this.headers({
      ...(body !== undefined && { 'Content-Type': 'application/json' }),
      ...(idempotencyKey !== undefined && { 'Idempotency-Key': idempotencyKey })
    })
    const watch = new Watch(signal)
    watch.expect(this.#timeoutMs + waitMs)
    try {
      const response = await this.open(url, {
        method: method.toUpperCase(),
        headers: headersSent,
        ...(body !== undefined && { body }),
        // Redirected, most posts would become a GET, which succeeds and changes nothing.
        redirect: method === 'get' ? 'follow' : 'manual',
        signal: watch.signal
      })
      const { headers } = response
      const text = await response.text()
      if (text === '' || path === '/metrics') {
        return { data: /** @type {never} */ (text || undefined), headers }
      }
      if (!headers.get('content-type')?.startsWith('application/json')) throw unexpected(response)
      return { data: JSON.parse(text), headers }
    } catch (error) {
      throw watch.explain(error)
    } finally {
      watch.end()
    }
  }

  /**
   * The headers of a request, with the token. They are made apart from the request itself, because what they
   * cannot carry is the caller's mistake and no reason to try again.
   * @param {Record<string, string>} others
   * @throws {TypeError}
   */
  headers(others) {
    try {
      return new Headers({ ...(this.token && { Authorization: `Bearer ${this.token}` }), ...others })
    } catch {
      // The message of the original error may quote the token.
      throw new TypeError('the token or the idempotency key has characters that a header cannot carry')
    }
  }

  /**
   * Sends a request.
   * @param {string} url below that of the service
   * @param {RequestInit} init with `headers()`
   * @returns {Promise<Response>} a successful response, whose body is still to be read
   */
  async open(url, init) {
    const fetch = this.#fetch
    const response = await fetch(this.#url + url, init)
    if (!response.ok) throw await toError(response)
    return response
  }

  /**
   * @template {Path} P
   * @template {MethodOf<P>} M
   * @param {M} method
   * @param {P} path
   * @returns {Method<P, M>}
   */
  #method(method, path) {
    /** @param {Input<P, M>} input @param {OptionsOf<P, M>} [options] */
    const call = async (input, options) => {
      const { data } = await this.request(method, path, input, options)
      return data
    }
    // For TypeScript it is open whether P may be called without an input.
    return /** @type {Method<P, M>} */ (call)
  }
}

/**
 * Refuses what `fetch` would refuse with every request, as if the service could not be reached.
 * @param {string} url in browsers it may be relative to that of the page
 * @throws {TypeError}
 */
function checkUrl(url) {
  const base = globalThis.document?.baseURI ?? globalThis.location?.href
  const { protocol, username, password } = new URL(`${url}/`, base)
  if (!/^https?:$/.test(protocol)) throw new TypeError('the URL must begin with http:// or https://')
  if (username || password) throw new TypeError('the URL must not contain a user name or a password')
}

/**
 * @param {string} method
 * @param {string} path
 * @param {object} [input]
 */
function toRequest(method, path, input = {}) {
  const rest = new Map(Object.entries(input).filter(([, value]) => value !== undefined))
  const filled = path.replace(/\{(\w+)\}/g, (_, name) => {
    const value = rest.get(name)
    rest.delete(name)
    return encodeURIComponent(value)
  })
  if (method !== 'get') {
    const body = rest.size > 0 ? JSON.stringify(Object.fromEntries(rest)) : undefined
    return { url: filled, body, waitMs: 0 }
  }
  const query = new URLSearchParams([...rest].map(([name, value]) => [name, `${value}`]))
  const url = rest.size > 0 ? `${filled}?${query}` : filled
  return { url, body: undefined, waitMs: Number(rest.get('wait') ?? 0) * 1000 }
}
