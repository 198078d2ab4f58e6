import { Busy, ClientGone } from '../errors/catalogue.ts'

interface Waiter {
  start: () => void
  refuse: (error: Error) => void
}

/**
 * Runs a limited number of tasks at a time. Waiting tasks take turns by key (usually a client's address), so
 * a client that asks for a lot delays only itself.
 */
export class FairQueue {
  #concurrency: number
  #maxWaiting: number
  #running = 0
  #waitingCount = 0
  // Keys in the order of their turns, each with its tasks in order of arrival.
  #waiting = new Map<string, Waiter[]>()

  /**
   * @param options.concurrency how many tasks run at a time
   * @param options.maxWaiting how many tasks may wait, for all keys together
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
   * Runs `task` when it is `key`'s turn.
   * @param signal removes the task from the queue when it aborts; a task that has started is not interrupted
   * @throws {Busy} if the queue is full and no other key has more tasks in it
   * @throws {ClientGone} if `signal` aborts before the task starts
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

  /** Resolves when the caller's task may start. */
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
    if (waiters.length > 0) this.#waiting.set(key, waiters) // last, after the other keys
    this.#waitingCount--
    waiter?.start()
  }

  /** Rejects the newest task of the key that has the most. @throws {Busy} if that is `key` itself */
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
