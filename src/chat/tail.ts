// Spare room, so that not every message copies all bytes to a larger buffer.
const SPARE_BYTES = 64 * 1024
// Cached pages: most readers ask for the same few.
const KEPT_PAGES = 16
const KEPT_BYTES = 8 * 1024 * 1024

/** Messages as JSON in one buffer, ascending by id, so that a page is a single copy. */
export class Tail {
  /** The ids. Do not modify. */
  readonly ids: number[] = []
  // Message i is at bytes[offsets[i]] to bytes[offsets[i + 1]], with a comma before it.
  #offsets = [0]
  #bytes = Buffer.allocUnsafe(SPARE_BYTES)
  #pages = new Map<number, Buffer>() // by range, for the current content
  #pagesBytes = 0

  /** The index of the first message after `id`. */
  indexAfter(id: number): number {
    let low = 0
    let high = this.ids.length
    while (low < high) {
      const middle = (low + high) >> 1
      if (this.#at(this.ids, middle) > id) high = middle
      else low = middle + 1
    }
    return low
  }

  /** One message as JSON; undefined if there is none with this id. */
  find(id: number): Buffer | undefined {
    const index = this.indexAfter(id - 1)
    if (this.ids[index] !== id) return undefined
    const start = this.#at(this.#offsets, index) + 1 // after the comma
    return Buffer.from(this.#bytes.subarray(start, this.#at(this.#offsets, index + 1)))
  }

  /** Inserts a message, or replaces the one with its id. */
  put(id: number, json: string): void {
    const index = this.indexAfter(id - 1)
    this.#splice(index, this.ids[index] === id ? 1 : 0, [id], Buffer.from(`,${json}`))
  }

  /** Replaces several existing messages at once, so that the bytes move only once. */
  replace(jsonById: Map<number, string>): void {
    const parts: Buffer[] = []
    const offsets = [0]
    let end = 0
    for (const [i, id] of this.ids.entries()) {
      const json = jsonById.get(id)
      const part =
        json === undefined
          ? this.#bytes.subarray(this.#at(this.#offsets, i), this.#at(this.#offsets, i + 1))
          : Buffer.from(`,${json}`)
      end += part.length
      parts.push(part)
      offsets.push(end)
    }
    this.#bytes = Buffer.concat([...parts, Buffer.allocUnsafe(SPARE_BYTES)])
    this.#offsets = offsets
    this.#forgetPages()
  }

  /** Removes a message, if there is one with this id. */
  remove(id: number): void {
    const index = this.indexAfter(id - 1)
    if (this.ids[index] === id) this.#splice(index, 1)
  }

  /** The size of all messages in bytes. */
  get bytes(): number {
    return this.bytesOf(0, this.ids.length)
  }

  /** The size in bytes of the messages in a range of indexes (`to` excluded). */
  bytesOf(from: number, to: number): number {
    return this.#at(this.#offsets, to) - this.#at(this.#offsets, from)
  }

  /** Removes the oldest messages until at most `count` and at most `bytes` are left, but keeps one. */
  trim(count: number, bytes: number): void {
    const length = this.ids.length
    this.#splice(0, Math.max(length - count, this.#firstWithin(bytes, 0, length), 0))
    if (this.bytes * 4 + SPARE_BYTES < this.#bytes.length) this.#resize(this.bytes, this.bytes)
  }

  /** Moves the used part to a buffer of `bytes` and some spare room. */
  #resize(used: number, bytes: number): void {
    const resized = Buffer.allocUnsafe(Math.ceil(bytes * 1.5) + SPARE_BYTES)
    this.#bytes.copy(resized, 0, 0, used)
    this.#bytes = resized
  }

  /** The lowest `from` for which the range has at most `bytes`, or a single message. */
  #firstWithin(bytes: number, from: number, to: number): number {
    let first = from
    while (first < to - 1 && this.bytesOf(first, to) > bytes) first++
    return first
  }

  /**
   * Shortens a range to at most `bytes`, or one message. It keeps the end of the range or, with `fromStart`,
   * its start.
   */
  within(bytes: number, from: number, to: number, fromStart: boolean): [from: number, to: number] {
    if (!fromStart) return [this.#firstWithin(bytes, from, to), to]
    let last = to
    while (last > from + 1 && this.bytesOf(from, last) > bytes) last--
    return [from, last]
  }

  /** The messages of a range as a JSON array. */
  page(from: number, to: number): Buffer | string {
    // Node sends a string together with the headers, but a Buffer after them.
    if (from >= to) return '[]'
    const range = from * 2 ** 20 + to
    const kept = this.#pages.get(range)
    if (kept) return kept
    const start = this.#at(this.#offsets, from)
    const end = this.#at(this.#offsets, to)
    const page = Buffer.allocUnsafe(end - start + 1)
    this.#bytes.copy(page, 0, start, end)
    page[0] = 0x5b // [ where the first comma was
    page[page.length - 1] = 0x5d // ]
    if (this.#pages.size >= KEPT_PAGES || this.#pagesBytes + page.length > KEPT_BYTES) this.#forgetPages()
    this.#pages.set(range, page)
    this.#pagesBytes += page.length
    return page
  }

  #forgetPages(): void {
    this.#pages.clear()
    this.#pagesBytes = 0
  }

  #splice(index: number, count: number, ids: number[] = [], bytes: Buffer = Buffer.alloc(0)): void {
    const start = this.#at(this.#offsets, index)
    const end = this.#at(this.#offsets, index + count)
    const used = this.#at(this.#offsets, this.ids.length)
    const growth = bytes.length - (end - start)
    this.#forgetPages()
    if (used + growth > this.#bytes.length) this.#resize(used, used + growth)
    this.#bytes.copyWithin(start + bytes.length, end, used)
    bytes.copy(this.#bytes, start)
    this.ids.splice(index, count, ...ids)
    this.#offsets.splice(index, count, ...ids.map(() => start))
    if (growth !== 0) {
      for (let i = index + ids.length; i < this.#offsets.length; i++) {
        this.#offsets[i] = this.#at(this.#offsets, i) + growth
      }
    }
  }

  #at(list: number[], index: number): number {
    const value = list[index]
    if (value === undefined) throw new RangeError(`no index ${index} below ${list.length}`)
    return value
  }
}
