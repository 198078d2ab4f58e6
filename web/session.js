import { call, Failure } from './api.js'
import { load, onOtherTab, save } from './storage.js'

/** @typedef {{ token: string, userId: number, nickname: string }} Account */

/** Who is logged in, in all tabs of this browser. Tells of changes by the event `change`. */
export class Session extends EventTarget {
  account = this.#load()
  /** Why it ended, unless somebody ended it. @type {Failure | undefined} */
  ended
  constructor () {
    super()
    onOtherTab('session', () => this.#become(this.#load()))
  }
  /** @returns {Account | undefined} */
  #load () {
    return JSON.parse(load('session') ?? 'null') ?? undefined
  }
  /** @param {Account | undefined} account @param {Failure} [ended] */
  #become (account, ended) {
    save('session', account && JSON.stringify(account))
    Object.assign(this, { account, ended })
    this.dispatchEvent(new Event('change'))
  }
  /** @param {'login' | 'register'} way @param {string} nickname @param {string} password @throws {Failure} */
  async begin (way, nickname, password) {
    this.#become(await call('POST', way, { body: { nickname, password }, patienceMs: 20_000 }))
  }
  /** Ends it, here at once. @throws {Failure} when the service could not be told, where the token then lives out its day */
  async end () {
    const token = this.account?.token
    this.#become(undefined)
    await call('POST', 'logout', { token })
  }
  /**
   * Asks in the name of who is logged in. That the session is over is known from then on.
   * @param {string} method @param {string} path @param {Omit<import('./api.js').Options, 'token'>} [options] @throws {Failure}
   */
  async call (method, path, options) {
    const token = this.account?.token
    return call(method, path, { ...options, token }).catch((failure) => {
      if (failure instanceof Failure && failure.isSessionOver && token === this.account?.token) this.#become(undefined, failure)
      throw failure
    })
  }
}
