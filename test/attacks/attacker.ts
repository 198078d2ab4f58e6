import type { RequestOptions } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { send } from '../load/send.ts'
import { Budget, Wire } from './wire.ts'

/** What an attacker may do where a row does not say more. */
export const CONNECTIONS = 50
export const SECONDS = 5
const BYTES_PER_SECOND = 1_000_000
// What goes over the wire for a connection besides its data: the packets SYN, ACK and RST or FIN, and the
// headers of one packet of data.
const CONNECTION_BYTES = 260
// About what Node's client sends beside a body.
const HEADERS_LENGTH = 200

/** The addresses that attacks come from. Others are at 127.0.0.1. */
export const ADDRESS = '127.0.0.2'
export const SECOND_ADDRESS = '127.0.0.3'

/** What an attack is made of: connections and requests from its own addresses, within its bounds. */
export class Attacker {
  readonly url: string
  /** Resolves when the time for the attack is over. */
  readonly over: Promise<unknown>
  isOver = false
  #port: number
  #connections: number
  #budget = new Budget(BYTES_PER_SECOND)
  #open = new Set<Wire>()
  #opening = 0

  constructor(
    url: string,
    { seconds = SECONDS, connections = CONNECTIONS }: { seconds?: number; connections?: number }
  ) {
    this.url = url
    this.over = sleep(seconds * 1000).then(() => {
      this.isOver = true
    })
    this.#port = Number(new URL(url).port)
    this.#connections = connections
  }

  /** Opens a connection. @throws {Error} when it is refused, or as many as allowed are open */
  async open(localAddress = ADDRESS): Promise<Wire> {
    if (this.#open.size + this.#opening >= this.#connections) {
      throw new Error(`more than ${this.#connections} connections`)
    }
    this.#opening++
    try {
      await this.#budget.take(CONNECTION_BYTES)
      const wire = await Wire.open(this.#port, localAddress, this.#budget)
      this.#open.add(wire)
      wire.closed.then(() => this.#open.delete(wire))
      return wire
    } finally {
      this.#opening--
    }
  }

  /** Opens so many connections. */
  openMany(number: number, localAddress?: string): Promise<Wire[]> {
    return Promise.all(Array.from({ length: number }, () => this.open(localAddress)))
  }

  /**
   * Sends one request and reads its answer, whose status is 0 when there was none.
   * @param how what differs from a connection that is kept alive, such as the address to send from
   */
  async ask(request: Parameters<typeof send>[1], how: RequestOptions = {}): ReturnType<typeof send> {
    await this.#budget.take(HEADERS_LENGTH + (request.body?.length ?? 0))
    return send(this.url, request, { localAddress: ADDRESS, ...how }).catch(() => ({
      status: 0,
      headers: {},
      body: ''
    }))
  }

  /** Does the same in several places at once, in each of them again and again, until the time is over. */
  async repeat(places: number, work: (place: number) => Promise<unknown>): Promise<void> {
    await Promise.all(
      Array.from({ length: places }, async (_, place) => {
        while (!this.isOver) await Promise.race([work(place), this.over])
      })
    )
  }
}
