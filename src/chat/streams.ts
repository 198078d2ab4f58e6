import type { ServerResponse } from 'node:http'
import type { Query } from '../database/query.ts'
import { FairQueue } from '../lib/fair-queue.ts'
import { Slots } from '../lib/slots.ts'
import { EventStream, toBroadcast } from './event-stream.ts'
import type { Follower } from './follower.ts'
import { type LogEntry, readPartOfLog } from './event-log.ts'
import { type Timeline, toFrame } from './timeline.ts'

const HEARTBEAT_MS = 15_000
// A flush that takes long is followed by as long a pause, so that streams leave half of the time to
// everything else.
const MAX_PAUSE_MS = 50
/** How much is sent at a time to a stream that catches up. */
const BATCH_BYTES = 16 * 1024
/**
 * Whoever is further behind than that many events loads the list again, which costs less than to send them
 * all.
 */
export const MAX_CATCH_UP = 10_000

/**
 * When the client shall connect again: spread, so that not all of them come at the same moment. No empty line
 * follows, because some readers take a block of lines without data for an event (httpx-sse 0.4.0).
 */
const retry = (ms: number) => `retry: ${Math.round(ms * (0.5 + Math.random()))}\n`

interface Batch {
  frames: Buffer[]
  bytes: number
  /** The last entry in it. */
  seq: number
}

/**
 * Turns entries of the log into the events of a stream, in batches of `BATCH_BYTES` unless one alone is
 * larger.
 */
function* toBatches(entries: LogEntry[]): Generator<Batch> {
  let batch: Batch | undefined
  for (const entry of entries) {
    const frame = toFrame(entry)
    const bytes = frame?.length ?? 0
    if (batch && batch.bytes + bytes > BATCH_BYTES) {
      yield batch
      batch = undefined
    }
    batch ??= { frames: [], bytes: 0, seq: entry.seq }
    batch.seq = entry.seq
    batch.bytes += bytes
    if (frame) batch.frames.push(frame)
  }
  if (batch) yield batch
}

export interface EventStreamsOptions {
  timeline: Timeline
  follower: Follower
  query: Query
  /** How many streams may read the log at a time. */
  concurrency: number
  limit: number
  limitPerAddress: number
}

/** The client of a stream. */
export interface Listener {
  address: string
  /** Whether its streams count for the address, which a proxy that nobody knows shares with many. */
  isCounted: boolean
  /** Aborts when it goes away. */
  signal: AbortSignal
}

/** The open event streams of this process. New events go to all of them as the same bytes. */
export class EventStreams {
  #timeline: Timeline
  #follower: Follower
  #query: Query
  #logReads: FairQueue
  #slots: Slots
  #open = new Map<EventStream, Listener>()
  #live = new Set<EventStream>() // those that have got everything so far
  #pending: Buffer[] = []
  #flushTimer: NodeJS.Timeout | undefined
  #nextFlushAt = 0
  #isClosed = false
  #heartbeat: NodeJS.Timeout

  constructor({ timeline, follower, query, concurrency, limit, limitPerAddress }: EventStreamsOptions) {
    this.#timeline = timeline
    this.#follower = follower
    this.#query = query
    this.#logReads = new FairQueue({ concurrency, maxWaiting: limit })
    this.#slots = new Slots(limit, limitPerAddress)
    timeline.on('frames', (frames) => this.#send(frames))
    this.#heartbeat = setInterval(() => this.#send([Buffer.from(': still here\n')]), HEARTBEAT_MS)
  }

  /** How many are open. */
  get size(): number {
    return this.#open.size
  }

  /**
   * Streams events until either side ends: those after `since` that the log still has, then each as it
   * happens. A browser never connects again after an error, so where there is no room the stream ends in
   * order.
   * @param response with its head written
   */
  open(response: ServerResponse, since: number | undefined, listener: Listener): void {
    const stream = new EventStream(response)
    const key = listener.isCounted ? listener.address : undefined
    if (this.#isClosed || this.#timeline.seq === 0 || !this.#slots.take(key)) {
      stream.end(retry(10_000))
      return
    }
    this.#open.set(stream, listener)
    response.once('close', () => {
      this.#slots.release(key)
      this.#open.delete(stream)
      this.#live.delete(stream)
    })
    stream.write(toBroadcast([Buffer.from(`${retry(2000)}: connected\n`)]))
    this.#follow(stream, listener, since ?? this.#timeline.seq)
  }

  /** Brings a stream that has everything up to `seq` to the end of the log, where it becomes live. */
  #follow(stream: EventStream, listener: Listener, seq: number): void {
    // What cannot be read now, the client asks for again.
    this.#catchUp(stream, listener, seq).catch(() => stream.end())
  }

  async #catchUp(stream: EventStream, listener: Listener, from: number): Promise<void> {
    let seq = from
    for (;;) {
      await stream.drained()
      // Another replica may be ahead, and so may the log itself.
      if (seq > this.#timeline.seq) await this.#follower.caughtUp()
      if (!this.#open.has(stream)) return

      if (this.#timeline.seq - seq > MAX_CATCH_UP) {
        seq = this.#reset(stream)
      } else if (seq > this.#timeline.seq || !this.#timeline.recent.reachBackTo(seq)) {
        seq = await this.#logReads.run(listener.address, listener.signal, () =>
          this.#sendFromLog(stream, seq)
        )
      } else {
        const recent = this.#timeline.recent.after(seq, BATCH_BYTES)
        if (recent.frames.length === 0) break
        await stream.send(recent.frames)
        seq = recent.seq
      }
    }
    // What waits to be flushed is a part of what this stream has got already.
    this.#flush()
    this.#live.add(stream)
  }

  /**
   * Sends a part of the log, from the entry after `seq` on: as much as the client takes at once, so that
   * nothing is kept for a slow one. Only an event that is larger than what is read at a time waits for it.
   * @returns the last entry that was sent
   */
  async #sendFromLog(stream: EventStream, seq: number): Promise<number> {
    const {
      entries: [first, ...entries]
    } = await readPartOfLog(this.#query, seq)
    if (first?.seq !== seq) return this.#reset(stream)
    if (entries.length === 0 && seq > this.#timeline.seq) {
      throw new Error('this process cannot follow the log now')
    }
    let sent = seq
    for (const batch of toBatches(entries)) {
      sent = batch.seq
      if (batch.bytes > BATCH_BYTES) await stream.send(batch.frames)
      else if (batch.bytes > 0 && !stream.write(toBroadcast(batch.frames))) break
    }
    return sent
  }

  #reset(stream: EventStream): number {
    stream.write(toBroadcast([this.#timeline.resetFrame]))
    return this.#timeline.seq
  }

  #send(frames: Buffer[]): void {
    this.#pending.push(...frames)
    const pause = this.#nextFlushAt - performance.now()
    if (pause <= 0) this.#flush()
    else this.#flushTimer ??= setTimeout(() => this.#flush(), pause)
  }

  #flush(): void {
    clearTimeout(this.#flushTimer)
    this.#flushTimer = undefined
    if (this.#pending.length === 0) return
    const started = performance.now()
    const broadcast = toBroadcast(this.#pending.splice(0))
    for (const stream of this.#live) {
      if (stream.write(broadcast)) continue
      this.#live.delete(stream)
      const listener = this.#open.get(stream)
      if (listener) this.#follow(stream, listener, this.#timeline.seq)
    }
    const now = performance.now()
    this.#nextFlushAt = now + Math.min(now - started, MAX_PAUSE_MS)
  }

  /** Ends all streams in order; the clients come back after a moment, each after another. */
  close(): void {
    this.#isClosed = true
    clearInterval(this.#heartbeat)
    this.#flush()
    this.#live.clear()
    for (const stream of this.#open.keys()) stream.end(retry(2000))
  }
}
