import type { ServerResponse } from 'node:http'
import type { Query } from '../database/query.ts'
import { FairQueue } from '../lib/fair-queue.ts'
import { Slots } from '../lib/slots.ts'
import { EventStream, toBroadcast } from './event-stream.ts'
import { type Follower, MAX_CATCH_UP } from './follower.ts'
import { type LogEntry, readPartOfLog } from './event-log.ts'
import { LiveStreams } from './live-streams.ts'
import { type Timeline, toFrame } from './timeline.ts'

const HEARTBEAT_MS = 15_000
const HEARTBEAT = Buffer.from(': still here\n')
/** How much is sent at a time to a stream that is catching up. */
const BATCH_BYTES = 16 * 1024

/**
 * The `retry` hint, randomised so that clients do not all reconnect at the same moment. No empty line
 * follows, because some readers yield an event for a block without data (httpx-sse 0.4.0).
 */
const retry = (ms: number) => `retry: ${Math.round(ms * (0.5 + Math.random()))}\n`

interface Batch {
  frames: Buffer[]
  bytes: number
  /** `seq` of the last entry in it. */
  seq: number
}

/**
 * Turns entries of the log into the events of a stream, in batches of at most `BATCH_BYTES`, unless a single
 * event is larger.
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
  /** Whether its streams count for its address. Not behind an unknown proxy, which many clients share. */
  isCounted: boolean
  /** Aborts when the client disconnects. */
  signal: AbortSignal
}

/** The open event streams of this process. A stream catches up with the log, and then follows it live. */
export class EventStreams {
  #timeline: Timeline
  #follower: Follower
  #query: Query
  #logReads: FairQueue
  #slots: Slots
  #open = new Map<EventStream, Listener>()
  #live = new LiveStreams<EventStream>((stream) => {
    const listener = this.#open.get(stream)
    if (listener) this.#follow(stream, listener, this.#timeline.seq)
  })
  #isClosed = false
  #heartbeat: NodeJS.Timeout

  constructor({ timeline, follower, query, concurrency, limit, limitPerAddress }: EventStreamsOptions) {
    this.#timeline = timeline
    this.#follower = follower
    this.#query = query
    this.#logReads = new FairQueue({ concurrency, maxWaiting: limit })
    this.#slots = new Slots(limit, limitPerAddress)
    timeline.on('frames', (frames) => this.#live.send(frames))
    this.#heartbeat = setInterval(() => this.#live.send([HEARTBEAT]), HEARTBEAT_MS)
  }

  /** The number of open streams. */
  get size(): number {
    return this.#open.size
  }

  /**
   * Streams events until either side closes: first those after `since` that the log still has, then live
   * ones. Beyond the limits the stream ends normally, because browsers never reconnect after an error.
   * @param response whose head has been written
   */
  open(response: ServerResponse, since: number | undefined, listener: Listener): void {
    const key = listener.isCounted ? listener.address : undefined
    if (this.#isClosed || this.#timeline.seq === 0 || !this.#slots.take(key)) {
      this.refuse(response)
      return
    }
    const stream = new EventStream(response)
    this.#open.set(stream, listener)
    response.once('close', () => {
      this.#slots.release(key)
      this.#open.delete(stream)
      this.#live.delete(stream)
    })
    stream.write(toBroadcast([Buffer.from(`${retry(2000)}: connected\n`)]))
    this.#follow(stream, listener, since ?? this.#timeline.seq)
  }

  /** Ends a stream that cannot be served now. @param response whose head has been written */
  refuse(response: ServerResponse): void {
    response.end(retry(10_000))
  }

  /** Sends a stream everything after `seq` up to the end of the log, where it becomes live. */
  #follow(stream: EventStream, listener: Listener, seq: number): void {
    // If the log cannot be read now, the client reconnects and asks again.
    this.#catchUp(stream, listener, seq).catch(() => stream.end())
  }

  async #catchUp(stream: EventStream, listener: Listener, from: number): Promise<void> {
    let seq = from
    for (;;) {
      await stream.drained()
      // Another replica may be ahead, and so may the log itself.
      if (seq > this.#timeline.seq) await this.#follower.caughtUp()
      if (this.#isClosed || !this.#open.has(stream)) return

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
    this.#live.add(stream)
  }

  /**
   * Sends a part of the log after `seq`: only as much as the client accepts now, so that nothing is buffered
   * for a slow client, except for a single event that is larger than that.
   * @returns `seq` of the last entry that was sent
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

  /** Ends all streams. The clients reconnect after a moment, spread over time. */
  close(): void {
    this.#isClosed = true
    clearInterval(this.#heartbeat)
    this.#live.close()
    for (const stream of this.#open.keys()) stream.end(retry(2000))
  }
}
