import { ChatError } from './error.js'

/**
 * Waits, unless the signal aborts before.
 * @param {number} ms
 * @param {AbortSignal} [signal]
 * @returns {Promise<void>}
 */
export function sleep(ms, signal) {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve()
    const timer = setTimeout(done, ms)
    function done() {
      clearTimeout(timer)
      signal?.removeEventListener('abort', done)
      resolve()
    }
    signal?.addEventListener('abort', done)
  })
}

/**
 * How long to wait after so many failures in a row: twice as long each time, up to 10 s, with jitter so that
 * clients do not come back all at once, and never less than the service asks for.
 * @param {number} failures 1 after the first
 * @param {number} [atLeastMs]
 */
export function backOffMs(failures, atLeastMs = 0) {
  const ms = Math.min(10_000, 250 * 2 ** failures)
  return Math.max(ms * (0.5 + Math.random() / 2), atLeastMs * (1 + Math.random() / 4))
}

/** The signal of a request: aborts with that of the caller, or when something does not come in time. */
export class Watch {
  #controller = new AbortController()
  #caller
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer
  #abort = () => this.#controller.abort(this.#caller?.reason)
  /** Whether time ran out. */
  isExpired = false

  /** @param {AbortSignal} [caller] */
  constructor(caller) {
    this.#caller = caller
    if (caller?.aborted) this.#abort()
    caller?.addEventListener('abort', this.#abort)
  }

  get signal() {
    return this.#controller.signal
  }

  /** Expects something within that time. @param {number} ms */
  expect(ms) {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => {
      this.isExpired = true
      this.#controller.abort()
    }, ms)
  }

  /** Expects nothing for now. */
  rest() {
    clearTimeout(this.#timer)
  }

  /** Ends the request, if it is still there. */
  end() {
    this.rest()
    this.#caller?.removeEventListener('abort', this.#abort)
    this.#controller.abort()
  }

  /**
   * What to throw for an error of `fetch` or of reading a response.
   * @param {unknown} error
   */
  explain(error) {
    if (error instanceof ChatError) return error
    if (this.#caller?.aborted) return this.#caller.reason
    if (this.isExpired) {
      return new ChatError('the service did not answer in time', { status: 0, code: 'timeout' })
    }
    return new ChatError('the service cannot be reached', { status: 0, code: 'network_error', cause: error })
  }
}
