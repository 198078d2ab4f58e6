import type { ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { setImmediate as immediate } from 'node:timers/promises'

/** How much may be buffered for a slow client. */
const MAX_UNREAD_BYTES = 64 * 1024
/** Larger events are sent in slices of this size, to see whether the client reads them. */
const SLICE_BYTES = 64 * 1024

/** The same bytes for all streams: plain for HTTP/1.0, and as a chunk for HTTP/1.1 (RFC 9112, 7.1). */
export interface Broadcast {
  plain: Buffer
  chunk: Buffer
}

export function toBroadcast(parts: Buffer[]): Broadcast {
  const length = parts.reduce((sum, part) => sum + part.length, 0)
  const head = Buffer.from(`${length.toString(16)}\r\n`)
  const chunk = Buffer.concat([head, ...parts, Buffer.from('\r\n')])
  return { chunk, plain: chunk.subarray(head.length, head.length + length) }
}

/**
 * One open event stream. It writes directly to the socket, bypassing the response, which corks the socket and
 * writes in the next tick: that would halve the deliveries per second of CPU.
 */
export class EventStream {
  #response: ServerResponse
  #socket: Socket
  #isChunked: boolean

  /** @param response whose head is written, and nothing else */
  constructor(response: ServerResponse) {
    this.#response = response
    // Nothing else uses the socket until the response ends: src/http/connections.ts
    this.#socket = response.req.socket
    this.#isChunked = response.chunkedEncoding
  }

  get isOpen(): boolean {
    return !this.#socket.destroyed
  }

  /** @returns whether the client keeps up, so that more may be written now */
  write({ plain, chunk }: Broadcast): boolean {
    this.#socket.write(this.#isChunked ? chunk : plain)
    return this.#socket.writableLength < MAX_UNREAD_BYTES
  }

  /** Writes at the client's pace. Resolves when everything is written or the stream is closed. */
  async send(frames: Buffer[]): Promise<void> {
    const [first] = frames
    if (frames.length === 1 && first && first.length > SLICE_BYTES) {
      for (let from = 0; from < first.length && this.isOpen; from += SLICE_BYTES) {
        if (!this.write(toBroadcast([first.subarray(from, from + SLICE_BYTES)]))) await this.drained()
      }
    } else {
      this.write(toBroadcast(frames))
      await this.drained()
    }
    await immediate() // so that a stream with much to send leaves room for others
  }

  /** Resolves when the client has read everything or the stream is closed. */
  async drained(): Promise<void> {
    if (!this.isOpen || this.#socket.writableLength === 0) return
    await new Promise<void>((resolve) => {
      const done = () => {
        this.#socket.off('drain', done).off('close', done)
        resolve()
      }
      this.#socket.on('drain', done).on('close', done)
    })
  }

  end(lastWords = ''): void {
    this.#response.end(lastWords)
  }
}
