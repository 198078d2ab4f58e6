/** Counts what is held at the same time, and refuses what is beyond a limit: in total, and for each key. */
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

  /** Whether there is no room for anybody. */
  get isFull(): boolean {
    return this.#taken >= this.#limit
  }

  /**
   * @param key usually the address of a client; undefined where the limit for each key does not apply
   * @returns whether there was room; then `release` must follow
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
