/**
 * @typedef {object} Details
 * @property {number} status
 * @property {string} code
 * @property {number | undefined} [retryAfter]
 * @property {string | undefined} [requestId]
 * @property {unknown} [cause]
 */

/** Every failure of a request: an error response, or none at all. */
export class ChatError extends Error {
  /** The HTTP status; 0 if there was no complete response, or a redirect in a browser. @type {number} */
  status
  /**
   * What went wrong, for programs: a code from the table of errors in docs/api.md, `network_error` or
   * `timeout` if there was no complete response, `unexpected_response` if it did not come from the service.
   * @type {string}
   */
  code
  /** The seconds of `Retry-After`, if the response had one. @type {number | undefined} */
  retryAfter
  /** Finds the request in the log of the service. @type {string | undefined} */
  requestId

  /**
   * @param {string} message
   * @param {Details} details
   */
  constructor(message, { status, code, retryAfter, requestId, cause }) {
    super(message, cause === undefined ? undefined : { cause })
    this.name = 'ChatError'
    this.status = status
    this.code = code
    this.retryAfter = retryAfter
    this.requestId = requestId
  }

  /** Whether the same request may succeed later. */
  get isTemporary() {
    if (this.status === 0) return this.code !== 'unexpected_response' // a redirect
    return this.status === 408 || this.status === 429 || this.status >= 500
  }
}

/** @param {Headers} headers */
function retryAfterOf(headers) {
  const value = headers.get('retry-after')
  if (value === null) return undefined
  const seconds = /^\d+$/.test(value) ? Number(value) : (Date.parse(value) - Date.now()) / 1000
  return Number.isNaN(seconds) ? undefined : Math.max(0, seconds)
}

/**
 * Reads an error response.
 * @param {Response} response
 * @returns {Promise<ChatError>}
 */
export async function toError(response) {
  const { status, headers } = response
  const retryAfter = retryAfterOf(headers)
  const text = await response.text().catch(() => '')
  try {
    const { error, code, requestId } = JSON.parse(text)
    if (typeof error === 'string' && typeof code === 'string') {
      return new ChatError(error, { status, code, retryAfter, requestId })
    }
  } catch {
    // A proxy answered, in its own words.
  }
  return unexpected(response, retryAfter)
}

/**
 * @param {Response} response
 * @param {number} [retryAfter]
 */
export const unexpected = ({ status }, retryAfter) =>
  new ChatError(`unexpected response with status ${status}`, {
    status,
    code: 'unexpected_response',
    retryAfter
  })
