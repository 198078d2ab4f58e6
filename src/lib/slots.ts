/** A semaphore with two limits: in total and per key. It refuses instead of waiting. */
export class Slots {
  #limit: number
  #limitPerKey: number
  #taken = 0
  #takenByKey = new Map<string, number>()

  constructor(limit: number, limitPerKey: number) {
    this.#limit = limit
    this.#limitPerKey = limitPerKey
  }

  get taken(): number {
    return this.#taken
  }

  /** Whether the total limit is reached. */
  get isFull(): boolean {
    return this.#taken >= this.#limit
  }

  /**
   * @param key usually a client's address; undefined if the limit per key does not apply
   * @returns whether a slot was free; if so, the caller must `release` it
   */
  take(key: string | undefined): boolean {
    if (this.isFull) return false
    if (key !== undefined) {
      const taken = this.#takenByKey.get(key) ?? 0
      if (taken >= this.#limitPerKey) return false
      this.#takenByKey.set(key, taken + 1)
    }
    this.#taken++
    return true
  }

  release(key: string | undefined): void {
    this.#taken--
    if (key === undefined) return
    const left = (this.#takenByKey.get(key) ?? 0) - 1
    if (left > 0) this.#takenByKey.set(key, left)
    else this.#takenByKey.delete(key)
  }
}
