import { once } from 'node:events'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { http } from '../lib/node-http.ts'

/** Larger bodies are sent in slices of this size, to see whether the client reads them. */
const SLICE_BYTES = 64 * 1024
/** How much of an unwanted request body is read and discarded. */
const MAX_DISCARDED_BYTES = 16 * 1024 * 1024

const hasBody = ({ headers }: IncomingMessage): boolean =>
  headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0

/**
 * A response that keeps its client's pace. A large body is sent slice by slice, each after the one before has
 * been read. Before the response ends, the rest of the request is read and discarded: closing a connection
 * with unread input resets it, and the client would never see why its large body was refused (RFC 9112, 9.6).
 * The response itself is sent immediately. All of this is bounded by the server's `requestTimeout` and by
 * `Connections`.
 */
export class PacedResponse<
  Request extends IncomingMessage = IncomingMessage
> extends http.ServerResponse<Request> {
  /** Whether the connection is closed after this response. Called when the head is sent. */
  isLast: () => boolean = () => false
  #refusedWith: number | undefined
  #isEnding = false
  #isRequestBroken = false
  #stopDiscarding: (() => void) | undefined
  #unsent: Buffer | undefined

  /** The body, if a part of it has not been sent yet. Several responses may share one. */
  get unsent(): Buffer | undefined {
    return this.#unsent
  }

  /** Whether the body is complete and only has to be sent. */
  get isEnding(): boolean {
    return this.#isEnding || this.writableEnded
  }

  /**
   * Keeps the status of the error that was sent instead, for the log and the metrics. A handler that does not
   * read the body may still answer with another one.
   */
  refuse(statusCode: number): void {
    this.#refusedWith = statusCode
    this.statusCode = statusCode
  }

  /** Ends the response without the rest of the request, which cannot be read. */
  abandonRequest(): void {
    this.#isRequestBroken = true
    this.#stopDiscarding?.()
  }

  override writeHead(...args: unknown[]): this {
    if (this.isLast()) this.shouldKeepAlive = false
    if (this.#refusedWith !== undefined) args[0] = this.#refusedWith
    // Its overloads are the same as here.
    return super.writeHead(...(args as Parameters<ServerResponse['writeHead']>))
  }

  override end(callback?: () => void): this
  override end(body: unknown, callback?: () => void): this
  override end(body: unknown, encoding: BufferEncoding, callback?: () => void): this
  override end(...args: unknown[]): this {
    if (this.#isEnding) return this
    const [body] = args
    const isLarge = Buffer.isBuffer(body) && body.length > SLICE_BYTES
    const isEarly = !this.req.complete && hasBody(this.req)
    // Its overloads are the same as here.
    if (!isLarge && !isEarly) return super.end(...(args as Parameters<ServerResponse['end']>))
    this.#isEnding = true
    const callback = args.find((arg): arg is () => void => typeof arg === 'function')
    this.#finish(typeof body === 'string' ? Buffer.from(body) : body, callback).catch(() => this.destroy())
    return this
  }

  async #finish(body: unknown, callback: (() => void) | undefined): Promise<void> {
    this.flushHeaders()
    if (Buffer.isBuffer(body)) await this.#send(body)
    if (this.destroyed) return
    if (!this.req.complete && !this.#isRequestBroken) await this.#discardRequest()
    super.end(callback)
  }

  async #send(body: Buffer): Promise<void> {
    this.#unsent = body
    const gone = new AbortController()
    const abort = () => gone.abort()
    this.once('close', abort)
    try {
      for (let from = 0; from < body.length && !this.destroyed; from += SLICE_BYTES) {
        const isTaken = this.write(body.subarray(from, from + SLICE_BYTES))
        if (!isTaken) await once(this, 'drain', { signal: gone.signal })
      }
    } finally {
      this.off('close', abort)
      this.#unsent = undefined
    }
  }

  async #discardRequest(): Promise<void> {
    let discarded = 0
    this.req.on('data', ({ length }: Buffer) => {
      discarded += length
      if (discarded > MAX_DISCARDED_BYTES) this.req.socket.destroy()
    })
    this.req.resume()
    await new Promise<void>((resolve) => {
      this.#stopDiscarding = resolve
      this.req.once('close', resolve)
    })
  }
}
