import { once } from 'node:events'
import { connect, type Socket } from 'node:net'

const STATUS_LINE = /HTTP\/1\.[01] (\d{3}) /g
// What may be the beginning of a status line at the end of a chunk.
const STATUS_LINE_LENGTH = 13
const HEAD_LENGTH = 16 * 1024

/** How much an attacker may send: `perSecond` bytes, by all of its connections together. */
export class Budget {
  #perSecond: number
  #paidUntil = 0

  constructor(perSecond: number) {
    this.#perSecond = perSecond
  }

  /** Resolves when as many bytes may be sent. */
  async take(bytes: number): Promise<void> {
    const now = performance.now()
    this.#paidUntil = Math.max(this.#paidUntil, now) + (bytes * 1000) / this.#perSecond
    const wait = this.#paidUntil - now
    if (wait > 10) {
      await new Promise((resolve) => {
        setTimeout(resolve, wait)
      })
    }
  }
}

/**
 * One connection of an attacker: raw bytes out, and counted status lines in. It reads nothing until `read` is
 * called.
 */
export class Wire {
  /** The bytes that came so far, how many of each status were among them, and the first of them as text. */
  received = 0
  statuses: Record<string, number> = {}
  head = ''
  /** Resolves when the connection is gone: to `reset` when that was not in order, else to `end`. */
  readonly closed: Promise<'end' | 'reset'>
  isOpen = true
  #socket: Socket
  #budget: Budget
  #rest = ''

  private constructor(socket: Socket, budget: Budget) {
    this.#socket = socket
    this.#budget = budget
    let how: 'end' | 'reset' = 'end'
    socket.on('error', () => {
      how = 'reset'
    })
    this.closed = new Promise((resolve) => {
      socket.on('close', () => {
        this.isOpen = false
        resolve(how)
      })
    })
  }

  /** @throws {Error} when the connection is refused */
  static async open(port: number, localAddress: string, budget: Budget): Promise<Wire> {
    const socket = connect({ port, host: '127.0.0.1', localAddress, noDelay: true })
    await once(socket, 'connect')
    return new Wire(socket, budget)
  }

  get answers(): number {
    return Object.values(this.statuses).reduce((sum, count) => sum + count, 0)
  }

  /** Reads from now on whatever comes. */
  read(): this {
    this.#socket.on('data', (chunk: Buffer) => this.#count(chunk))
    return this
  }

  /** Reads about as many bytes a second, until the connection is gone. */
  readSlowly(perSecond: number): this {
    const timer = setInterval(() => {
      for (let left = perSecond / 20; left > 0;) {
        const chunk: Buffer | null = this.#socket.read(
          Math.min(left, this.#socket.readableLength) || undefined
        )
        if (chunk === null) break
        left -= chunk.length
        this.#count(chunk)
      }
    }, 50)
    this.#socket.on('close', () => clearInterval(timer))
    return this
  }

  #count(chunk: Buffer): void {
    this.received += chunk.length
    const text = chunk.toString('latin1')
    if (this.head.length < HEAD_LENGTH) this.head += text.slice(0, HEAD_LENGTH - this.head.length)
    const seen = this.#rest + text
    let end = 0
    for (const match of seen.matchAll(STATUS_LINE)) {
      this.statuses[match[1]!] = (this.statuses[match[1]!] ?? 0) + 1
      end = match.index + match[0].length
    }
    this.#rest = seen.slice(Math.max(end, seen.length - STATUS_LINE_LENGTH + 1))
  }

  /** Sends within the budget. @returns when the other side has taken it, or the connection is gone */
  async send(bytes: string | Buffer): Promise<void> {
    await this.#budget.take(Buffer.byteLength(bytes))
    if (!this.isOpen || !this.#socket.writable) return
    await Promise.race([
      new Promise((resolve) => {
        this.#socket.write(bytes, resolve)
      }),
      this.closed
    ])
  }

  /** Resolves when that many answers have come, or the connection is gone. */
  async answered(count = 1): Promise<void> {
    while (this.isOpen && this.answers < count) {
      await Promise.race([once(this.#socket, 'data').catch(() => {}), this.closed])
    }
  }

  /** Says that nothing more will be sent. */
  end(): void {
    this.#socket.end()
  }

  /** Breaks the connection off with a RST. */
  reset(): void {
    this.#socket.resetAndDestroy()
  }

  close(): void {
    this.#socket.destroy()
  }
}
