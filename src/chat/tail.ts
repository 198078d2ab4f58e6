// Cached pages: most readers ask for the same few.
const KEPT_PAGES = 16
const KEPT_BYTES = 8 * 1024 * 1024
const CLOSING_BRACKET = Buffer.from(']')

/** Messages as JSON, ascending by id. */
export class Tail {
  /** The ids. Do not modify. */
  readonly ids: number[] = []
  #parts: Buffer[] = [] // each message with a comma before it
  #bytes = 0
  #pages = new Map<number, Buffer>() // by range, for the current content
  #pagesBytes = 0

  /** The index of the first message after `id`. */
  indexAfter(id: number): number {
    let low = 0
    let high = this.ids.length
    while (low < high) {
      const middle = (low + high) >> 1
      if ((this.ids[middle] ?? Infinity) > id) high = middle
      else low = middle + 1
    }
    return low
  }

  /** One message as JSON; undefined if there is none with this id. */
  find(id: number): Buffer | undefined {
    const index = this.indexAfter(id - 1)
    return this.ids[index] === id ? this.#parts[index]?.subarray(1) : undefined
  }

  /** Inserts a message, or replaces the one with its id. */
  put(id: number, json: string): void {
    const index = this.indexAfter(id - 1)
    this.#splice(index, this.ids[index] === id ? 1 : 0, [id], [Buffer.from(`,${json}`)])
  }

  /** Removes a message, if there is one with this id. */
  remove(id: number): void {
    const index = this.indexAfter(id - 1)
    if (this.ids[index] === id) this.#splice(index, 1)
  }

  /** The size of all messages in bytes. */
  get bytes(): number {
    return this.#bytes
  }

  /** The size in bytes of the messages in a range of indexes (`to` excluded). */
  bytesOf(from: number, to: number): number {
    let bytes = 0
    for (let i = from; i < to; i++) bytes += this.#sizeAt(i)
    return bytes
  }

  /** Removes the oldest messages until at most `count` and at most `bytes` are left, but keeps one. */
  trim(count: number, bytes: number): void {
    const length = this.ids.length
    this.#splice(0, Math.max(length - count, this.within(bytes, 0, length, false)[0], 0))
  }

  /**
   * Shortens a range to at most `bytes`, or one message. It keeps the end of the range or, with `fromStart`,
   * its start.
   */
  within(bytes: number, from: number, to: number, fromStart: boolean): [from: number, to: number] {
    if (this.#bytes <= bytes) return [from, to] // mostly, and then nothing has to be added up
    let size = this.bytesOf(from, to)
    let [first, last] = [from, to]
    while (size > bytes && last - first > 1) size -= this.#sizeAt(fromStart ? --last : first++)
    return [first, last]
  }

  /** The messages of a range as a JSON array. */
  page(from: number, to: number): Buffer | string {
    // Node sends a string together with the headers, but a Buffer after them.
    if (from >= to) return '[]'
    const range = from * 2 ** 20 + to
    const kept = this.#pages.get(range)
    if (kept) return kept
    const page = Buffer.concat([...this.#parts.slice(from, to), CLOSING_BRACKET])
    page[0] = 0x5b // [ where the first comma was
    if (this.#pages.size >= KEPT_PAGES || this.#pagesBytes + page.length > KEPT_BYTES) this.#forgetPages()
    this.#pages.set(range, page)
    this.#pagesBytes += page.length
    return page
  }

  #sizeAt(index: number): number {
    return this.#parts[index]?.length ?? 0
  }

  #forgetPages(): void {
    this.#pages.clear()
    this.#pagesBytes = 0
  }

  #splice(index: number, count: number, ids: number[] = [], parts: Buffer[] = []): void {
    this.#forgetPages()
    this.ids.splice(index, count, ...ids)
    for (const { length } of this.#parts.splice(index, count, ...parts)) this.#bytes -= length
    for (const { length } of parts) this.#bytes += length
  }
}
