import { call, Failure } from './api.js'
import { say } from './i18n.js'
import { onOtherTab, shared } from './storage.js'

/** @typedef {{ token: string, userId: number, nickname: string }} Account */

const NAME = 'session'
const FORMER = 'former'
const ENDED = 'ended'
/** Before the token of a session that is over here, but perhaps not at the service. */
const LOGOUT = 'logout.'
const MAX_LOGOUT_PAUSE_MS = 15_000
// How often a request is sent that the service keeps refusing as one too many, and how long it may ask to
// wait each time.
const MAX_TRIES = 4
const MAX_PAUSE_MS = 5000
/** Checking a password takes a while, above all when many people log in. */
export const PASSWORD_TIMEOUT_MS = 20_000

/** Who is logged in, in all tabs of this browser. Dispatches `change`. */
export class Session extends EventTarget {
  account = readAccount(shared.loadJson(NAME))
  /** Why the session ended, unless somebody logged out. @type {string | undefined} */
  ended
  /** Whose session ended by itself, and may want to log in again. */
  former = readPerson(shared.loadJson(FORMER))

  constructor() {
    super()
    onOtherTab(NAME, () => this.#readAnew())
    // A page that comes back from the back/forward cache has not heard of other tabs meanwhile.
    addEventListener('pageshow', ({ persisted }) => persisted && this.#readAnew())
    const unconfirmed = shared.names(LOGOUT).map((name) => name.slice(LOGOUT.length))
    for (const token of unconfirmed.filter(isToken)) this.#logOut(token).catch(() => {})
  }

  /** Another tab may have logged in or out. */
  #readAnew() {
    const account = readAccount(shared.loadJson(NAME))
    // Something that is no account is no reason to log anybody out.
    const isUnreadable = !account && shared.load(NAME) !== undefined
    if (isUnreadable || account?.token === this.account?.token) return
    this.#become(account)
  }

  /** @param {Account | undefined} account */
  #become(account) {
    this.account = account
    this.ended = account ? undefined : shared.load(ENDED)
    this.former = account ? undefined : readPerson(shared.loadJson(FORMER))
    this.dispatchEvent(new Event('change'))
  }

  /** @param {Account | undefined} account @param {Failure} [ended] */
  #set(account, ended) {
    const former = ended && ended.code !== 'user_not_found' ? this.account : undefined
    if (former) {
      const { userId, nickname } = former
      shared.save(FORMER, JSON.stringify({ userId, nickname }))
    } else shared.remove(FORMER)
    // Other tabs learn of it by the storage, and say why as well.
    if (ended) shared.save(ENDED, ended.message)
    else shared.remove(ENDED)
    if (account) shared.save(NAME, JSON.stringify(account))
    else shared.remove(NAME)
    this.#become(account)
  }

  /** @param {'login' | 'register'} way @param {string} nickname @param {string} password @throws {Failure} */
  async begin(way, nickname, password) {
    const body = { nickname, password }
    const account = readAccount(await call('POST', way, { body, timeoutMs: PASSWORD_TIMEOUT_MS }))
    if (!account) throw Failure.unexpected()
    this.#set(account)
  }

  /**
   * Logs out, on this page immediately.
   * @throws {Failure} if the service could not be told: it will be, by this page or a later one
   */
  async end() {
    const token = this.account?.token
    if (token) shared.save(LOGOUT + token, 'unconfirmed')
    this.#set(undefined)
    if (token) await this.#logOut(token)
  }

  /** @param {string} token @throws {Failure} if that did not work yet */
  async #logOut(token, failures = 0) {
    try {
      await call('POST', 'logout', { token })
    } catch (failure) {
      if (!(failure instanceof Failure)) throw failure
      if (!failure.isSessionOver) {
        const pauseMs = failure.retryMs || Math.min(1000 * 2 ** failures, MAX_LOGOUT_PAUSE_MS)
        setTimeout(() => this.#logOut(token, failures + 1).catch(() => {}), pauseMs)
        throw new Failure(`${failure.message} ${say('logoutLater')}`)
      }
    }
    shared.remove(LOGOUT + token)
  }

  /** Logs out of an account that is no more. */
  forget() {
    this.#set(undefined)
  }

  /**
   * Sends a request in the name of the account. An answer that the session is over ends it here as well.
   * @param {string} method @param {string} path
   * @param {Omit<import('./api.js').Options, 'token'>} [options] @throws {Failure}
   */
  async call(method, path, options) {
    const token = this.account?.token
    try {
      return await call(method, path, { ...options, token })
    } catch (failure) {
      const isOver = failure instanceof Failure && failure.isSessionOver
      if (isOver && token === this.account?.token) this.#lose(failure)
      throw failure
    }
  }

  /**
   * The session is over, unless another tab has begun one that this one has not heard of.
   * @param {Failure} ended
   */
  #lose(ended) {
    const account = readAccount(shared.loadJson(NAME))
    if (account && account.token !== this.account?.token) this.#become(account)
    else this.#set(undefined, ended)
  }

  /**
   * The same for a request that does no harm when it is repeated: one that is refused as one too many is
   * sent again when the service allows it, unless that takes too long.
   * @param {string} method @param {string} path
   * @param {Omit<import('./api.js').Options, 'token'>} [options] @throws {Failure}
   */
  async callPatiently(method, path, options) {
    const token = this.account?.token
    for (let tries = 1; ; tries++) {
      try {
        return await this.call(method, path, options)
      } catch (failure) {
        const isOneTooMany = failure instanceof Failure && failure.status === 429
        if (!isOneTooMany || tries === MAX_TRIES || failure.retryMs > MAX_PAUSE_MS) throw failure
        await new Promise((resolve) => setTimeout(resolve, failure.retryMs || 1000))
        if (token !== this.account?.token) throw failure
      }
    }
  }
}

/** Whether something fits into a header. @param {unknown} value */
const isToken = (value) => typeof value === 'string' && /^[\x21-\x7e]+$/.test(value)

/**
 * Anything may have been written into the storage.
 * @param {unknown} value @returns {Account | undefined} undefined if it is not an account
 */
function readAccount(value) {
  const { token } = Object(value)
  const person = readPerson(value)
  return person && isToken(token) ? { token, ...person } : undefined
}

/** @param {unknown} value @returns {Omit<Account, 'token'> | undefined} */
function readPerson(value) {
  const { userId, nickname } = Object(value)
  if (!Number.isSafeInteger(userId) || typeof nickname !== 'string') return undefined
  return { userId, nickname }
}
