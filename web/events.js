/** @typedef {import('./room.js').Change} Change */

/**
 * Parses an event stream (https://html.spec.whatwg.org/multipage/server-sent-events.html) as it comes, with
 * what an EventSource hides: the comments, and so the signs of life. Its work is linear in what comes,
 * however large one event is.
 */
export class EventParser {
  /** How long to wait before the next stream, if the service said so. @type {number | undefined} */
  retryMs
  /** Whether there was more than an order to come back later. */
  isOpen = false
  /** What has come of the line that is not complete. */
  #rest = ''
  #data = ''
  #id = ''

  /**
   * @param {string} part the next part of the stream
   * @returns {(Change | { type: 'reset' })[]} the events that are complete with it
   * @throws {SyntaxError} if one of them is not JSON
   */
  push(part) {
    const lines = part.split('\n')
    lines[0] = this.#rest + lines[0]
    this.#rest = lines.pop() ?? ''
    return lines.flatMap((line) => this.#read(line))
  }

  /** @param {string} line */
  #read(line) {
    const [, field = '', value = ''] = /^(\w*): ?(.*)$/s.exec(line) ?? []
    if (field === 'retry') this.retryMs = Number(value) || 0
    else if (line !== '') this.isOpen = true
    if (field === 'id') this.#id = value
    if (field === 'data') this.#data += value
    if (line !== '' || this.#data === '') return []
    const event = { ...JSON.parse(this.#data), seq: Number(this.#id) }
    this.#data = ''
    return [event]
  }
}
