import { type Broadcast, type EventStream, toBroadcast } from './event-stream.ts'

/** For how long streams are written to before everything else gets a turn. */
const SLICE_MS = 10
/**
 * Streams leave half of the time to everything else. If they are ahead by this, they pause for as long as the
 * last slice took.
 */
const MAX_DEBT_MS = 50

/**
 * The streams that follow the log live. New frames are written to all of them in rounds. What comes during a
 * round is written to the remaining streams together with the rest, and to the others in the next round.
 * Streams that lack the same frames get the same bytes.
 */
export class LiveStreams<Stream extends Pick<EventStream, 'write'>> {
  /** How many frames each stream has got, or did not need, of all that there ever were. */
  #got = new Map<Stream, number>()
  /** The newest frames, which some streams lack, and how many there were before them. */
  #frames: Buffer[] = []
  #before = 0
  /** The streams that this round has not reached yet, and how many frames all will have got after it. */
  #round = this.#got.entries()
  #roundEnd = 0
  /** The bytes for streams that have got so many frames. */
  #broadcasts = new Map<number, Broadcast>()
  #timer: NodeJS.Timeout | undefined
  /** When everything else will have had as much time as the streams. */
  #evenAt = 0
  #onSlow: (stream: Stream) => void

  /** @param onSlow called with a stream that does not keep up. It is no longer live. */
  constructor(onSlow: (stream: Stream) => void) {
    this.#onSlow = onSlow
  }

  /** Adds a stream that has got everything so far. */
  add(stream: Stream): void {
    this.#got.set(stream, this.#end)
  }

  delete(stream: Stream): void {
    this.#got.delete(stream)
  }

  /** Writes these frames to all streams, beginning now unless there is a pause. */
  send(frames: Buffer[]): void {
    const isIdle = this.#frames.length === 0
    this.#frames.push(...frames)
    this.#broadcasts.clear()
    if (isIdle) this.#beginRound()
    if (this.#timer) return
    if (this.#pause > 0) this.#writeLater()
    else this.#write(SLICE_MS)
  }

  /** Writes everything that is left, without a pause. Nothing is written to any stream after that. */
  close(): void {
    clearTimeout(this.#timer)
    this.#write(Infinity)
    this.#got.clear()
  }

  get #end(): number {
    return this.#before + this.#frames.length
  }

  /** How many milliseconds nothing should be written. */
  get #pause(): number {
    return Math.max(0, this.#evenAt - performance.now() - MAX_DEBT_MS)
  }

  #writeLater(): void {
    this.#timer = setTimeout(() => this.#write(SLICE_MS), this.#pause)
  }

  #write(maxMs: number): void {
    this.#timer = undefined
    const started = performance.now()
    let isDone = false
    while (!isDone && performance.now() - started < maxMs) isDone = this.#writeToNext()
    this.#evenAt = Math.max(this.#evenAt, started) + 2 * (performance.now() - started)
    if (!isDone) this.#writeLater()
  }

  /** @returns whether all streams have got everything */
  #writeToNext(): boolean {
    const next = this.#round.next()
    if (next.done) return this.#endRound()
    const [stream, got] = next.value
    if (got === this.#end) return false
    this.#got.set(stream, this.#end)
    if (stream.write(this.#broadcastAfter(got))) return false
    this.#got.delete(stream)
    this.#onSlow(stream)
    return false
  }

  #beginRound(): void {
    this.#round = this.#got.entries()
    this.#roundEnd = this.#end
  }

  /** Forgets what all streams have got. @returns whether that is everything */
  #endRound(): boolean {
    this.#frames.splice(0, this.#roundEnd - this.#before)
    this.#before = this.#roundEnd
    if (this.#frames.length === 0) return true
    this.#beginRound()
    return false
  }

  #broadcastAfter(got: number): Broadcast {
    let broadcast = this.#broadcasts.get(got)
    if (!broadcast) {
      broadcast = toBroadcast(this.#frames.slice(got - this.#before))
      this.#broadcasts.set(got, broadcast)
    }
    return broadcast
  }
}
