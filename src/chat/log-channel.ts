import { createHash, createHmac, randomUUID, timingSafeEqual } from 'node:crypto'
import type { Cluster, Redis } from 'ioredis'
import type { Log } from '../lib/logger.ts'
import { TimeoutError, withTimeout } from '../lib/timeout.ts'
import type { LogEntry, LogPage } from './event-log.ts'

/** Ends with the version of the format, so that replicas with another format do not hear these. */
const CHANNEL = 'chat-backend:log:1:'
/**
 * Redis keeps a copy for each replica that is slow to read, and ends the connection of one that has 32 MB
 * waiting (`client-output-buffer-limit`). Whatever is larger is read from PostgreSQL.
 */
const MAX_BYTES = 256 * 1024
// The subscription is renewed this often, which also shows whether its connection still works.
const RENEW_MS = 1000
const TIMEOUT_MS = 2000
// The announcer sends a heartbeat about once a second.
const SILENT_MS = 2500
/** The length of a signature in base64url. */
const SIGNATURE_LENGTH = 43

/** The room whose replicas share a channel. */
export interface SharedRoom {
  /** The same for all replicas of the room, and for no other room. */
  name: string
  /** A secret of these replicas. */
  key: Buffer
}

/**
 * What is sent: the entries of the log after `from`, which tells where they belong. Without entries, the log
 * ended there when this was sent, or may continue, so that whoever receives it has to look (`hasNext`).
 */
interface Publication {
  by: string
  from: Pick<LogEntry, 'seq' | 'mark'>
  entries: LogEntry[]
  hasNext: boolean
}

/** An entry that every replica should have, so that its identity is enough. */
const known = ({ seq, mark }: Publication['from']): LogEntry => ({
  seq,
  mark,
  kind: 'message_updated',
  id: 0,
  message: undefined
})

export interface LogChannelOptions {
  redis: Redis | Cluster
  /** Creates a client for the subscription, because a connection that subscribes can do nothing else. */
  createSubscriber: () => Redis | Cluster
  /** Whether there are other replicas. Without them, nothing is published. */
  hasPeers: () => boolean
  log: Log
}

/**
 * The Redis channel through which replicas tell each other what is new in the log. Publications are signed
 * with a key from PostgreSQL, so other users of Redis cannot forge them. But Redis may lose, repeat, delay or
 * reorder them, so a replica checks where they belong.
 */
export class LogChannel {
  #options: LogChannelOptions
  #id = randomUUID()
  #ownStart = `{"by":"${this.#id}"`
  #room: SharedRoom | undefined
  #channel = ''
  #subscriber: Redis | Cluster | undefined
  #timer: NodeJS.Timeout | undefined
  #isRenewing = false
  #isSubscribed = false
  #canPublish = false
  #heardAt = -Infinity
  #complaint: string | undefined
  #hasWarned = false
  /** Called with what another replica has published. The first entry only tells where the others belong. */
  onPage: (page: LogPage) => void = () => {}
  /** Called with the id of a replica that has published entries, mostly its own posts. */
  onPublished: (replica: string) => void = () => {}
  /** Called for each publication that is not signed by a replica of this room. */
  onInvalid: () => void = () => {}

  constructor(options: LogChannelOptions) {
    this.#options = options
  }

  /** Whether this replica can publish, and receive what others publish. */
  get isOpen(): boolean {
    return this.#isSubscribed && this.#canPublish
  }

  get hasPeers(): boolean {
    return this.#options.hasPeers()
  }

  /** Whether another replica publishes everything that is new, whoever wrote it. */
  get isAnnounced(): boolean {
    return this.#isSubscribed && performance.now() - this.#heardAt < SILENT_MS
  }

  /** Joins the replicas of a room. Does nothing if it has joined already. */
  join(room: SharedRoom): void {
    const digest = createHash('sha256').update(room.key).update(room.name).digest('hex').slice(0, 32)
    const channel = CHANNEL + digest
    if (channel === this.#channel) return
    this.#room = room
    this.#channel = channel
    this.#forgetSubscriber()
    this.#timer ??= setInterval(() => {
      void this.#renew()
    }, RENEW_MS)
    void this.#renew()
  }

  stop(): void {
    clearInterval(this.#timer)
    this.#room = undefined
    this.#forgetSubscriber()
  }

  /** Publishes entries that follow each other in the log. Nobody waits for it. */
  publish({ entries: [from, ...entries], hasNext }: LogPage): void {
    if (from === undefined || !this.isOpen || !this.hasPeers) return
    const publication = { by: this.#id, from: { seq: from.seq, mark: from.mark }, entries, hasNext }
    // Count first: it would take long to serialise what is too large anyway.
    const length = entries.reduce((sum, { message }) => sum + (message?.text.length ?? 0), 0)
    const isSent = length <= MAX_BYTES && this.#send(publication)
    if (!isSent) this.#send({ ...publication, entries: [], hasNext: true })
  }

  /**
   * Sends the heartbeat of the announcer, which says that the log ends with this entry.
   * @param hasNext says instead that there may be more, so that all look for themselves
   */
  publishEnd(seq: number, mark: string | undefined, hasNext = false): void {
    this.publish({ entries: [known({ seq, mark })], hasNext })
  }

  /** @returns false if it is too large */
  #send(publication: Publication): boolean {
    const json = JSON.stringify(publication)
    if (Buffer.byteLength(json) > MAX_BYTES) return false
    this.#options.redis.publish(this.#channel, this.#sign(json) + json).catch((error: Error) => {
      this.#canPublish = false
      this.#complain(error)
    })
    return true
  }

  #sign(json: string): string {
    return createHmac('sha256', this.#room?.key ?? '')
      .update(json)
      .digest('base64url')
  }

  async #renew(): Promise<void> {
    if (this.#isRenewing || this.#room === undefined) return
    this.#isRenewing = true
    const subscriber = (this.#subscriber ??= this.#createSubscriber())
    try {
      await withTimeout(TIMEOUT_MS, this.#subscribe(subscriber))
      this.#isSubscribed = subscriber === this.#subscriber
      if (!this.#canPublish) await this.#tryToPublish()
      if (this.isOpen) this.#complaint = undefined
    } catch (error) {
      this.#isSubscribed = false
      // ioredis does not always notice that a connection is dead, nor always reconnect.
      const isLost = error instanceof TimeoutError || subscriber.status === 'end'
      if (isLost && subscriber === this.#subscriber) this.#forgetSubscriber()
      this.#complain(error as Error)
    } finally {
      this.#isRenewing = false
    }
  }

  async #subscribe(subscriber: Redis | Cluster): Promise<void> {
    if (subscriber.status === 'wait') await subscriber.connect()
    await subscriber.subscribe(this.#channel)
  }

  /** After a failure, tries a channel that nobody reads. */
  async #tryToPublish(): Promise<void> {
    try {
      await this.#options.redis.publish(`${this.#channel}:probe`, '')
      this.#canPublish = true
    } catch (error) {
      this.#complain(error as Error)
    }
  }

  #createSubscriber(): Redis | Cluster {
    const subscriber = this.#options.createSubscriber()
    subscriber.on('error', () => {}) // The other client of this process reports it.
    subscriber.on('close', () => {
      if (subscriber === this.#subscriber) this.#isSubscribed = false
    })
    subscriber.on('ready', () => {
      void this.#renew()
    })
    subscriber.on('message', (channel: string, text: string) => {
      if (channel === this.#channel) this.#receive(text)
    })
    return subscriber
  }

  #forgetSubscriber(): void {
    this.#isSubscribed = false
    this.#subscriber?.disconnect()
    this.#subscriber = undefined
  }

  #receive(text: string): void {
    if (text.startsWith(this.#ownStart, SIGNATURE_LENGTH)) return
    const json = text.slice(SIGNATURE_LENGTH)
    if (text.length > SIGNATURE_LENGTH + MAX_BYTES || !this.#isSigned(json, text)) {
      this.onInvalid()
      if (!this.#hasWarned) {
        this.#options.log.warn(`ignored a forged publication on the Redis channel ${this.#channel}`)
      }
      this.#hasWarned = true
      return
    }
    // It was written by a replica with the same format.
    const { by, from, entries, hasNext } = JSON.parse(json) as Publication
    if (entries.length === 0 && !hasNext) this.#heardAt = performance.now()
    if (entries.length > 0) this.onPublished(by)
    this.onPage({ entries: [known(from), ...entries], hasNext })
  }

  #isSigned(json: string, text: string): boolean {
    const signature = Buffer.from(text.slice(0, SIGNATURE_LENGTH))
    const expected = Buffer.from(this.#sign(json))
    return signature.length === expected.length && timingSafeEqual(signature, expected)
  }

  // Outages of Redis are reported elsewhere. This is for a Redis that works, but refuses this.
  #complain({ name, message }: Error): void {
    if (name !== 'ReplyError' || message === this.#complaint || !/\b(NOPERM|ERR)\b/.test(message)) return
    if (this.#complaint === undefined) {
      this.#options.log.warn(
        `cannot announce changes to other replicas through Redis, so each listens to PostgreSQL: ${message}`
      )
    }
    this.#complaint = message
  }
}
