import { setImmediate as immediate } from 'node:timers/promises'
import { Busy, TooManyLongPolls } from '../errors/catalogue.ts'
import { Slots } from '../lib/slots.ts'
import type { Timeline } from './timeline.ts'

/** How many are released before other work gets its turn. */
const RELEASED_AT_ONCE = 100

interface Waiter {
  after: number
  release: () => void
}

/** The long polls of this process. */
export class LongPolls {
  #timeline: Timeline
  #slots: Slots
  #waiters = new Set<Waiter>()
  #isClosed = false

  constructor(timeline: Timeline, limit: number, limitPerAddress: number) {
    this.#timeline = timeline
    this.#slots = new Slots(limit, limitPerAddress)
    timeline.on('messages', () => {
      void this.#release()
    })
  }

  /** How many are open. */
  get size(): number {
    return this.#waiters.size
  }

  /**
   * Resolves when there is a message after `id`, when `signal` aborts, or on shutdown.
   * @param address the client's address; undefined if the limit per address does not apply
   * @throws {Busy} if too many are open in total
   * @throws {TooManyLongPolls} if too many from this address are open
   */
  async wait(id: number, address: string | undefined, signal: AbortSignal): Promise<void> {
    if (this.#isClosed || signal.aborted || this.#timeline.newestId > id) return
    if (!this.#slots.take(address)) throw this.#slots.isFull ? new Busy() : new TooManyLongPolls()
    await new Promise<void>((resolve) => {
      const release = () => {
        this.#waiters.delete(waiter)
        signal.removeEventListener('abort', release)
        resolve()
      }
      const waiter = { after: id, release }
      this.#waiters.add(waiter)
      signal.addEventListener('abort', release, { once: true })
    })
    this.#slots.release(address)
  }

  /** Releases those for which there is a message. */
  async #release(): Promise<void> {
    const newest = this.#timeline.newestId
    let released = 0
    for (const waiter of [...this.#waiters]) {
      if (waiter.after >= newest && !this.#isClosed) continue
      waiter.release()
      released++
      if (released % RELEASED_AT_ONCE === 0) await immediate()
    }
  }

  /** Releases all long polls, and accepts no more. */
  close(): void {
    this.#isClosed = true
    for (const waiter of [...this.#waiters]) waiter.release()
  }
}
