// Room for what comes, before the bytes must be copied to a larger buffer.
const SPARE_BYTES = 64 * 1024
// Most readers ask for the same few pages; whoever asks for others pushes these out.
const KEPT_PAGES = 16

/** Messages as JSON, ascending by id, in one buffer, so that a page of them is one copy. */
export class Tail {
  /** The ids, to be read only. */
  readonly ids: number[] = []
  // Message i is at bytes[offsets[i]] to bytes[offsets[i + 1]], with a comma before it.
  #offsets = [0]
  #bytes = Buffer.allocUnsafe(SPARE_BYTES)
  #pages = new Map<number, Buffer>() // as they are now, by their range

  /** The index of the first message after `id`. */
  indexAfter (id: number): number {
    let low = 0
    let high = this.ids.length
    while (low < high) {
      const middle = (low + high) >> 1
      if (this.#at(this.ids, middle) > id) high = middle
      else low = middle + 1
    }
    return low
  }

  /** Puts a message in its place, instead of the one with its id where there is one. */
  put (id: number, json: string): void {
    const index = this.indexAfter(id - 1)
    this.#splice(index, this.ids[index] === id ? 1 : 0, [id], Buffer.from(`,${json}`))
  }

  /** Takes out a message, where there is one with that id. */
  remove (id: number): void {
    const index = this.indexAfter(id - 1)
    if (this.ids[index] === id) this.#splice(index, 1)
  }

  /** Takes out the oldest, so that `count` are left. */
  trim (count: number): void {
    this.#splice(0, Math.max(0, this.ids.length - count))
  }

  /** The messages from one index to before another, as a JSON array. */
  page (from: number, to: number): Buffer | string {
    if (from >= to) return '[]' // Node sends a short text together with the headers, and bytes after them.
    const range = from * 2 ** 20 + to
    const kept = this.#pages.get(range)
    if (kept) return kept
    const start = this.#at(this.#offsets, from)
    const end = this.#at(this.#offsets, to)
    const page = Buffer.allocUnsafe(end - start + 1)
    this.#bytes.copy(page, 0, start, end)
    page[0] = 0x5b // [ where the first comma was
    page[page.length - 1] = 0x5d // ]
    if (this.#pages.size >= KEPT_PAGES) this.#pages.clear()
    this.#pages.set(range, page)
    return page
  }

  #splice (index: number, count: number, ids: number[] = [], bytes: Buffer = Buffer.alloc(0)): void {
    const start = this.#at(this.#offsets, index)
    const end = this.#at(this.#offsets, index + count)
    const used = this.#at(this.#offsets, this.ids.length)
    const growth = bytes.length - (end - start)
    this.#pages.clear()
    if (used + growth > this.#bytes.length) {
      const larger = Buffer.allocUnsafe((used + growth) * 2)
      this.#bytes.copy(larger, 0, 0, used)
      this.#bytes = larger
    }
    this.#bytes.copyWithin(start + bytes.length, end, used)
    bytes.copy(this.#bytes, start)
    this.ids.splice(index, count, ...ids)
    this.#offsets.splice(index, count, ...ids.map(() => start))
    if (growth !== 0) for (let i = index + ids.length; i < this.#offsets.length; i++) this.#offsets[i] = this.#at(this.#offsets, i) + growth
  }

  #at (list: number[], index: number): number {
    const value = list[index]
    if (value === undefined) throw new RangeError(`no index ${index} below ${list.length}`)
    return value
  }
}
