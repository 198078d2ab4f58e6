/** How many events are kept in memory. */
const MAX_EVENTS = 1000
/** How many bytes of events, unless a single one is larger. */
const MAX_BYTES = 16 * 1024 * 1024
// Keep a quarter more before trimming, so that not every event moves all others.
const SLACK = 1.25

interface RecentEvent {
  seq: number
  bytes: Buffer
}

/** The newest events, each serialised once for all streams. */
export class RecentEvents {
  #events: RecentEvent[] = []
  #bytes = 0
  #after = 0

  /** Drops all events. From now on, only events after `seq` are available. */
  clear(seq: number): void {
    this.#events = []
    this.#bytes = 0
    this.#after = seq
  }

  push(seq: number, bytes: Buffer): void {
    this.#events.push({ seq, bytes })
    this.#bytes += bytes.length
    if (this.#events.length > MAX_EVENTS * SLACK || this.#bytes > MAX_BYTES * SLACK) this.#forgetOldest()
  }

  #forgetOldest(): void {
    let count = 0
    while (this.#events.length - count > MAX_EVENTS || this.#bytes > MAX_BYTES) {
      const event = this.#events[count]
      if (event === undefined) break
      this.#bytes -= event.bytes.length
      this.#after = event.seq
      count++
    }
    this.#events.splice(0, count)
  }

  /** Whether every event after `seq` is available. */
  reachBackTo(seq: number): boolean {
    return seq >= this.#after
  }

  /**
   * The oldest events after `seq`. Check `reachBackTo(seq)` first.
   * @param maxBytes limits the result, but it has at least one event
   * @returns the serialised events, and the seq of the last one
   */
  after(seq: number, maxBytes: number): { frames: Buffer[]; seq: number } {
    const frames: Buffer[] = []
    let last = seq
    let bytes = 0
    for (let i = this.#indexAfter(seq); i < this.#events.length; i++) {
      const event = this.#events[i]
      if (event === undefined || (frames.length > 0 && bytes + event.bytes.length > maxBytes)) break
      frames.push(event.bytes)
      bytes += event.bytes.length
      last = event.seq
    }
    return { frames, seq: last }
  }

  #indexAfter(seq: number): number {
    let low = 0
    let high = this.#events.length
    while (low < high) {
      const middle = (low + high) >> 1
      if ((this.#events[middle]?.seq ?? Infinity) > seq) high = middle
      else low = middle + 1
    }
    return low
  }
}
