import { Busy, ClientGone } from '../errors/catalogue.ts'

interface Waiter {
  start: () => void
  refuse: (error: Error) => void
}

/**
 * Runs a bounded number of tasks at a time. Those that wait take turns by key (usually a client's address),
 * so one client that asks for much delays only itself.
 */
export class FairQueue {
  #concurrency: number
  #maxWaiting: number
  #running = 0
  #waitingCount = 0
  // The keys in the order of their turns, each with its tasks in the order in which they came.
  #waiting = new Map<string, Waiter[]>()

  /**
   * @param options.concurrency how many tasks run at a time
   * @param options.maxWaiting how many tasks wait at most, of all keys together
   */
  constructor({ concurrency, maxWaiting }: { concurrency: number; maxWaiting: number }) {
    this.#concurrency = concurrency
    this.#maxWaiting = maxWaiting
  }

  get running(): number {
    return this.#running
  }

  get waiting(): number {
    return this.#waitingCount
  }

  /**
   * Runs `task` when it is the turn of `key`.
   * @param signal takes the task out of the queue when it aborts; a task that has started is not interrupted
   * @throws {Busy} when too many tasks wait, and no other key has more of them than this one
   * @throws {ClientGone} when `signal` aborts before the task has started
   */
  async run<Result>(key: string, signal: AbortSignal, task: () => Promise<Result>): Promise<Result> {
    if (signal.aborted) throw new ClientGone()
    if (this.#running < this.#concurrency) this.#running++
    else await this.#turn(key, signal)
    try {
      return await task()
    } finally {
      this.#startNext()
    }
  }

  /** Resolves when the task of this caller may start. */
  async #turn(key: string, signal: AbortSignal): Promise<void> {
    if (this.#waitingCount >= this.#maxWaiting) this.#makeRoomFor(key)
    await new Promise<void>((resolve, reject) => {
      const leave = () => {
        this.#remove(key, waiter)
        reject(new ClientGone())
      }
      const settled = (settle: () => void) => {
        signal.removeEventListener('abort', leave)
        settle()
      }
      const waiter: Waiter = {
        start: () => settled(resolve),
        refuse: (error) => settled(() => reject(error))
      }
      const waiters = this.#waiting.get(key)
      if (waiters) waiters.push(waiter)
      else this.#waiting.set(key, [waiter])
      this.#waitingCount++
      signal.addEventListener('abort', leave, { once: true })
    })
  }

  #startNext(): void {
    const [next] = this.#waiting
    if (next === undefined) {
      this.#running--
      return
    }
    const [key, waiters] = next
    const waiter = waiters.shift()
    this.#waiting.delete(key)
    if (waiters.length > 0) this.#waiting.set(key, waiters) // at the end, after the other keys
    this.#waitingCount--
    waiter?.start()
  }

  /** Refuses the newest task of whichever key has the most. @throws {Busy} when that is the key that asks */
  #makeRoomFor(key: string): void {
    let longest = key
    for (const [other, { length }] of this.#waiting) {
      if (length > (this.#waiting.get(longest)?.length ?? 0) + (longest === key ? 1 : 0)) longest = other
    }
    const waiter = longest === key ? undefined : this.#waiting.get(longest)?.at(-1)
    if (waiter === undefined) throw new Busy()
    this.#remove(longest, waiter)
    waiter.refuse(new Busy())
  }

  #remove(key: string, waiter: Waiter): void {
    const waiters = this.#waiting.get(key) ?? []
    waiters.splice(waiters.indexOf(waiter), 1)
    if (waiters.length === 0) this.#waiting.delete(key)
    this.#waitingCount--
  }
}
