import { once } from 'node:events'
import type { ServerResponse } from 'node:http'
import type { Query } from '../database/query.ts'
import type { Follower } from './follower.ts'
import { readLog } from './log.ts'
import { type Timeline, toFrame } from './timeline.ts'

const HEARTBEAT_MS = 15_000
// Bytes that wait for a reader who does not read.
const MAX_BACKLOG = 256 * 1024
const MAX_STALL_MS = 30_000
// A flush that takes long is followed by as long a pause, so that streams leave half of the time to everything else.
const MAX_PAUSE_MS = 50

/** When the client shall connect again: spread, so that not all of them come at the same moment. */
const retry = (ms: number) => `retry: ${Math.round(ms * (0.5 + Math.random()))}\n\n`

/** The open event streams of this process. New events go to all of them as the same bytes. */
export class EventStreams {
  #timeline: Timeline
  #follower: Follower
  #query: Query
  #limit: number
  #open = new Set<ServerResponse>() // all of them
  #live = new Set<ServerResponse>() // those that have caught up
  #pending: Buffer[] = []
  #flushTimer: NodeJS.Timeout | undefined
  #nextFlushAt = 0
  #isClosed = false
  #heartbeat: NodeJS.Timeout

  constructor (timeline: Timeline, follower: Follower, query: Query, limit: number) {
    this.#timeline = timeline
    this.#follower = follower
    this.#query = query
    this.#limit = limit
    timeline.on('frames', (frames) => this.#send(frames))
    this.#heartbeat = setInterval(() => this.#send([Buffer.from(': still here\n\n')]), HEARTBEAT_MS)
  }

  /** How many are open. */
  get size (): number {
    return this.#open.size
  }

  /**
   * Streams events until either side ends: those after `since` that the log still has, then each as it happens. A browser
   * never connects again after an error, so where there is no room the stream ends in order.
   * @param response with its headers written
   */
  async open (response: ServerResponse, since: number | undefined): Promise<void> {
    if (this.#isClosed || this.#open.size >= this.#limit || this.#timeline.seq === 0) {
      response.end(retry(10_000))
      return
    }
    this.#open.add(response)
    response.once('close', () => {
      this.#open.delete(response)
      this.#live.delete(response)
    })
    response.write(`${retry(2000)}: connected\n\n`)
    // What cannot be read or sent now, the client asks for again.
    await this.#catchUp(response, since).catch(() => response.writableNeedDrain ? response.destroy() : response.end())
  }

  async #catchUp (response: ServerResponse, since = this.#timeline.seq): Promise<void> {
    for (let seq = since; this.#open.has(response);) {
      // Another replica may be ahead, and so may the log itself.
      if (seq > this.#timeline.seq) await this.#follower.caughtUp()
      const frames = this.#timeline.framesSince(seq)
      if (frames) {
        this.#flush()
        this.#live.add(response)
        if (frames.length > 0) response.write(Buffer.concat(frames))
        return
      }
      const { entries } = await readLog(this.#query, seq)
      if (entries[0]?.seq !== seq) {
        response.write(this.#timeline.resetFrame)
        seq = this.#timeline.seq
        continue
      }
      if (entries.length === 1 && seq > this.#timeline.seq) throw new Error('this process cannot follow the log now')
      for (const entry of entries.slice(1)) {
        const frame = toFrame(entry)
        if (frame && !response.write(frame)) await once(response, 'drain', { signal: AbortSignal.timeout(MAX_STALL_MS) })
        seq = entry.seq
      }
    }
  }

  #send (frames: Buffer[]): void {
    this.#pending.push(...frames)
    const pause = this.#nextFlushAt - performance.now()
    if (pause <= 0) this.#flush()
    else this.#flushTimer ??= setTimeout(() => this.#flush(), pause)
  }

  #flush (): void {
    clearTimeout(this.#flushTimer)
    this.#flushTimer = undefined
    if (this.#pending.length === 0) return
    const started = performance.now()
    const bytes = Buffer.concat(this.#pending.splice(0))
    for (const response of this.#live) {
      if (response.writableLength > MAX_BACKLOG) response.destroy()
      // Straight to the connection, if it is not another's turn yet: a response corks it, and writes in the next tick.
      else (response.socket ?? response).write(bytes)
    }
    const now = performance.now()
    this.#nextFlushAt = now + Math.min(now - started, MAX_PAUSE_MS)
  }

  /** Ends all streams in order; the clients come back after a moment, each after another. */
  close (): void {
    this.#isClosed = true
    clearInterval(this.#heartbeat)
    this.#flush()
    this.#live.clear()
    for (const response of this.#open) response.end(retry(2000))
  }
}
