/** How long a batch waits at most, whatever happens to the other replicas. */
const MAX_WAIT_MS = 50

/**
 * Lets replicas that write at the same time take turns. One lock orders all their batches. A batch sent while
 * others are under way only waits for that lock, and posts that arrive meanwhile miss it. So a replica sends
 * its next batch when all others but one have written theirs, which makes fewer and larger batches.
 */
export class Turns {
  /** The replicas that have written since the last batch of this one. */
  #written = new Set<string>()
  /** Those, and the ones that wrote between its last two batches. */
  #others = new Set<string>()
  #endedAt = -Infinity
  #lastMs = 0
  #onWritten = () => {}

  /** Another replica has written. */
  heard(replica: string): void {
    this.#written.add(replica)
    this.#others.add(replica)
    this.#onWritten()
  }

  /** This replica has written a batch, which took `ms` milliseconds. */
  ended(ms: number): void {
    this.#others = new Set(this.#written)
    this.#written = new Set()
    this.#endedAt = performance.now()
    this.#lastMs = ms
  }

  /**
   * Resolves when it is this replica's turn: immediately, unless it has just written, and at least two others
   * have, too. Waits no longer than their batches are likely to take together, and at most 50 ms.
   */
  async next(): Promise<void> {
    const waitedMs = performance.now() - this.#endedAt
    const waitMs = Math.min(this.#others.size * this.#lastMs, MAX_WAIT_MS) - waitedMs
    const isTurn = () => this.#written.size >= this.#others.size - 1
    if (waitMs <= 0 || isTurn()) return
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, waitMs)
      this.#onWritten = () => {
        if (!isTurn()) return
        clearTimeout(timer)
        resolve()
      }
    })
    this.#onWritten = () => {}
  }
}
