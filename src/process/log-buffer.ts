/** How many characters are kept before they are written. */
const MAX_CHARACTERS = 8192
/** How long a line may wait for others. */
const FLUSH_MS = 100
/** Lines of this level (pino's `warn`) and above are written immediately: a crash must not lose them. */
const URGENT_LEVEL = 40

/** Makes pino set `lastLevel` (https://github.com/pinojs/pino/blob/main/docs/api.md#pino-metadata). */
const METADATA = Symbol.for('pino.metadata')

/**
 * Collects log lines, so that one system call writes many. The `minLength` of pino's own destination saves
 * less, because for each line it measures everything it holds again (seen in sonic-boom 4.2). Whoever uses
 * it calls `flushSync` when the process exits.
 */
export class LogBuffer {
  readonly [METADATA] = true
  lastLevel = 0
  #destination: { write: (lines: string) => void }
  #lines = ''
  #timer: NodeJS.Timeout | undefined

  constructor(destination: { write: (lines: string) => void }) {
    this.#destination = destination
  }

  write(line: string): void {
    this.#lines += line
    if (this.lastLevel >= URGENT_LEVEL || this.#lines.length >= MAX_CHARACTERS) this.flushSync()
    else this.#timer ??= setTimeout(() => this.flushSync(), FLUSH_MS).unref()
  }

  /** Writes what there is. pino calls it after a line of level `fatal`. */
  flushSync(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    if (this.#lines === '') return
    const lines = this.#lines
    this.#lines = ''
    this.#destination.write(lines)
  }
}
