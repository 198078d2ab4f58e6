/** @import { Schemas } from './types.ts' */

/** Parses an event stream as it comes. Format: https://html.spec.whatwg.org/multipage/server-sent-events.html */
export class EventParser {
  /** How long to wait before the next stream, if the service said so. @type {number | undefined} */
  retryMs
  /** Whether there was more than a `retry`, which alone means that there is no room for another stream. */
  isOpen = false
  #decoder = new TextDecoder()
  #rest = ''
  /** @type {string[]} */
  #data = []
  #id = ''

  /**
   * @param {Uint8Array} bytes the next part of the stream
   * @returns {{ id: number, event: Schemas['Event'] }[]} the events that are complete with it
   */
  push(bytes) {
    const lines = this.#decoder.decode(bytes, { stream: true }).split('\n')
    lines[0] = this.#rest + lines[0]
    this.#rest = lines.pop() ?? ''
    return lines.flatMap((line) => this.#read(line.replace(/\r$/, '')))
  }

  /** @param {string} line */
  #read(line) {
    if (line === '') return this.#complete()
    const [, field, value = ''] = /^([^:]*):? ?(.*)$/s.exec(line) ?? []
    if (field === 'retry') {
      if (/^\d+$/.test(value)) this.retryMs = Number(value)
      return []
    }
    this.isOpen = true
    if (field === 'id') this.#id = value
    if (field === 'data') this.#data.push(value)
    return []
  }

  #complete() {
    if (this.#data.length === 0) return []
    const event = JSON.parse(this.#data.join('\n'))
    this.#data = []
    return [{ id: Number(this.#id), event }]
  }
}
