import type { Server, ServerOptions } from 'node:http'
import type { Socket } from 'node:net'
import type { ClientError } from '../errors/catalogue.ts'
import { http } from '../lib/node-http.ts'
import { PacedResponse } from './paced-response.ts'

/** How many requests may wait on one connection, behind the one being handled. */
const MAX_PIPELINED = 16
/** How many requests may wait on all connections together. */
const MAX_PIPELINED_IN_TOTAL = 10_000
/**
 * How many requests beyond these limits may be kept in total. Node frees them when their connection closes;
 * until then each takes about 1.5 KiB.
 */
const MAX_DROPPED_IN_TOTAL = 20_000
/**
 * How many connections beyond the limit are accepted for health checks, so that a full process is not killed
 * as a dead one. Event streams end there with a `retry` hint.
 */
const RESERVE = 100
/** How long such a connection may take to send its request. */
const RESERVE_MS = 5000
/** How long a new connection may take to send its first request before it can be closed to make room. */
const FIRST_REQUEST_MS = 1000
/** How long a client may take to read the rest before its connection is closed. */
const CLOSING_MS = 10_000
/** How long a client may stop reading a response. */
const MAX_STALL_MS = 30_000
/**
 * How long a client may take to send the rest of its request, to read on, or to read the rest, once the
 * server is closing.
 */
const SHUTDOWN_WAIT_MS = 3000
/** How many bytes of responses may wait to be read, in total. */
const MAX_UNREAD_BYTES = 64 * 1024 * 1024
const SWEEP_MS = 1000

/** A response that is sent as it is, without a `ServerResponse`, and the error that it tells. */
export interface RawResponse {
  error: ClientError
  bytes: string
}

type Handler = (request: DroppableRequest, response: Response) => void

/**
 * When a connection closes, Node destroys each unanswered request with an error, whose stack it formats. With
 * thousands of small pipelined requests this alone occupies a core, so dropped requests are left to the
 * garbage collector.
 */
class DroppableRequest extends http.IncomingMessage {
  isDropped = false
  #isRefused = false

  override destroy(error?: Error): this {
    return this.isDropped ? this : super.destroy(error)
  }

  /** Lets whoever reads the body fail. The connection is left alone, because the response is on its way. */
  refuse(error: Error): void {
    this.#isRefused = true
    this.destroy(error)
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    if (this.#isRefused) done(this.listenerCount('error') > 0 ? error : null)
    else super._destroy(error, done)
  }
}

type Response = PacedResponse<DroppableRequest>

/** The state of one connection. */
interface Connection {
  readonly address: string
  readonly isBeyondLimit: boolean
  /** The response under way. It is the only one that gets `close` from Node when the client goes away. */
  current: Response | undefined
  readonly waiting: [DroppableRequest, Response][]
  /** How many requests were dropped. They are never answered. */
  dropped: number
  isClosing: boolean
  /** Whether the response whose head is being sent is the last one. */
  readonly isLast: () => boolean
  /** Closes the connection, whatever its client does. */
  deadline: NodeJS.Timeout | undefined
  /** Sent before the connection is closed. */
  lastWords: string
  /**
   * The bytes sent at the last check, and since when that number has not grown although more is waiting.
   */
  sentBytes: number
  stalledSince: number
  /** Since when some bytes have been waiting at each check. `Infinity` if none are. */
  unreadSince: number
  /** Since when a server that is closing has been waiting for the rest of a request. */
  incompleteSince: number
}

/** The connections from one address. */
interface Peer {
  count: number
  /** Those that have not sent a request yet, with the time they were opened, oldest first. */
  unused: Map<Socket, number>
  /** Idle keep-alive connections, the longest idle first. */
  idle: Set<Socket>
}

/**
 * The connections of this process. Each handles one request at a time, even if more were pipelined. So
 * whatever requests hold is bounded by the number of connections, and is released when a connection closes.
 */
export class Connections {
  #limit: number
  #all = new Map<Socket, Connection>()
  #peers = new Map<string, Peer>()
  /** The connections beyond the limit, oldest first. */
  #beyondLimit = new Set<Socket>()
  #waitingCount = 0
  #droppedCount = 0
  /**
   * Whether to close connections after the requests that have already arrived. Responses then carry
   * `Connection: close`, including those under way whose head was not sent yet.
   */
  isDraining: () => boolean = () => false
  #server: Server | undefined
  #sweep = setInterval(() => {
    this.#refuseIncomplete()
    this.#closeSlowReaders()
  }, SWEEP_MS).unref()

  /** @param limit how many connections may be open at a time */
  constructor(limit: number) {
    this.#limit = limit
  }

  get size(): number {
    return this.#all.size
  }

  /** Creates a server that passes the requests of each connection to `handle` one at a time. */
  createServer(options: ServerOptions, handle: Handler): Server {
    const server = http.createServer({
      ...options,
      IncomingMessage: DroppableRequest,
      ServerResponse: PacedResponse
    })
    server.on('connection', (socket) => this.#add(socket))
    const dispatch: Handler = (request, response) => this.#dispatch(request, response, handle)
    server.on('request', dispatch)
    // Without a listener, Node answers an unknown expectation with 417 and an empty body.
    server.on('checkExpectation', dispatch)
    this.#server = server
    return server
  }

  /** Whether this connection is beyond the limit, where only health checks are served. */
  isBeyondLimit(socket: Socket): boolean {
    return this.#all.get(socket)?.isBeyondLimit ?? false
  }

  /**
   * Answers bytes that are not HTTP, after the responses to earlier requests, and closes the connection. If
   * they belong to a request whose response is already complete, that response is the answer. Nothing that
   * arrives later is carried out, because clients and proxies may send again what was answered with 408.
   */
  refuse(socket: Socket, { error, bytes }: RawResponse): void {
    const connection = this.#all.get(socket)
    const current = connection?.current
    if (!connection || !socket.writable) return
    if (current?.isEnding || (current?.req.complete && !current.headersSent)) {
      if (current.req.complete) {
        connection.lastWords = bytes
        this.#dropIncomplete(socket, connection)
      } else {
        current.abandonRequest()
      }
      this.#closeAfterAnswers(socket, connection)
    } else if (current?.headersSent) {
      socket.destroy() // in the middle of a response, which this would corrupt
    } else {
      if (current) {
        current.refuse(error.statusCode)
        current.req.refuse(error)
      }
      socket.end(bytes)
      this.#closeAfterAnswers(socket, connection)
    }
  }

  close(): void {
    clearInterval(this.#sweep)
  }

  /** Whether the server no longer accepts connections, and waits for these to close. */
  get #isClosing(): boolean {
    return this.#server?.listening === false
  }

  #add(socket: Socket): void {
    const address = socket.remoteAddress
    // Its client left while it waited to be accepted. What it sent could still be read and carried out, so
    // whoever sends and leaves fast enough would make everybody else wait.
    if (address === undefined) {
      socket.destroy()
      return
    }
    const isFull = this.#all.size - this.#beyondLimit.size >= this.#limit
    const isBeyondLimit = isFull && !this.#closeIdle()
    const waiting: Connection['waiting'] = []
    const connection: Connection = {
      address,
      isBeyondLimit,
      current: undefined,
      waiting,
      dropped: 0,
      isClosing: false,
      isLast: () => this.isDraining() && waiting.length === 0,
      deadline: undefined,
      lastWords: '',
      sentBytes: 0,
      stalledSince: performance.now(),
      unreadSince: Infinity,
      incompleteSince: performance.now()
    }
    this.#all.set(socket, connection)
    const peer = this.#peers.get(address) ?? { count: 0, unused: new Map(), idle: new Set() }
    this.#peers.set(address, peer)
    peer.count++
    socket.once('close', () => this.#remove(socket))
    if (isBeyondLimit) {
      this.#makeRoomInReserve()
      this.#beyondLimit.add(socket)
      this.#closeWithin(RESERVE_MS, socket, connection)
    } else {
      peer.unused.set(socket, performance.now())
    }
  }

  #remove(socket: Socket): void {
    const connection = this.#all.get(socket)
    const peer = connection && this.#peers.get(connection.address)
    if (!peer) return
    // The timer would keep the connection and its dropped requests in memory.
    clearTimeout(connection.deadline)
    this.#waitingCount -= connection.waiting.length
    this.#droppedCount -= connection.dropped
    this.#beyondLimit.delete(socket)
    this.#all.delete(socket)
    peer.unused.delete(socket)
    peer.idle.delete(socket)
    peer.count--
    if (peer.count === 0) this.#peers.delete(connection.address)
  }

  /**
   * Makes room by closing the longest idle connection of the address that has the most. One that was just
   * opened is left alone: its request, perhaps a health check, is on its way.
   */
  #closeIdle(): boolean {
    let closable: Socket | undefined
    let most = 0
    for (const peer of this.#peers.values()) {
      const socket = this.#closableOf(peer)
      if (socket !== undefined && peer.count > most) {
        closable = socket
        most = peer.count
      }
    }
    if (closable === undefined) return false
    closable.destroy()
    this.#remove(closable)
    return true
  }

  /**
   * Closes the oldest connection beyond the limit, to make room for a health check.
   */
  #makeRoomInReserve(): void {
    const [oldest] = this.#beyondLimit
    if (oldest === undefined || this.#beyondLimit.size < RESERVE) return
    oldest.destroy()
    this.#remove(oldest)
  }

  #closableOf({ unused, idle }: Peer): Socket | undefined {
    const [oldest] = unused
    if (oldest !== undefined && performance.now() - oldest[1] >= FIRST_REQUEST_MS) return oldest[0]
    const [longestIdle] = idle
    return longestIdle
  }

  #dispatch(request: DroppableRequest, response: Response, handle: Handler): void {
    const { socket } = request
    const connection = this.#all.get(socket)
    if (connection === undefined) {
      request.isDropped = true
    } else if (connection.isClosing || !socket.writable) {
      this.#drop(socket, connection, request)
    } else if (connection.current === undefined) {
      this.#handle(connection, request, response, handle)
    } else if (connection.waiting.length < MAX_PIPELINED && this.#waitingCount < MAX_PIPELINED_IN_TOTAL) {
      connection.waiting.push([request, response])
      this.#waitingCount++
    } else {
      // These are never answered, so the client must send them again (RFC 9112, 9.3.2).
      this.#drop(socket, connection, request)
      this.#closeAfterAnswers(socket, connection)
      socket.pause()
    }
  }

  #drop(socket: Socket, connection: Connection, request: DroppableRequest): void {
    request.isDropped = true
    connection.dropped++
    this.#droppedCount++
    if (this.#droppedCount > MAX_DROPPED_IN_TOTAL) socket.destroy()
  }

  /** Drops the request that has not arrived completely, if one waits. The last words are its answer. */
  #dropIncomplete(socket: Socket, connection: Connection): void {
    const [request] = connection.waiting.at(-1) ?? []
    if (request === undefined || request.complete) return
    connection.waiting.pop()
    this.#waitingCount--
    this.#drop(socket, connection, request)
  }

  #closeAfterAnswers(socket: Socket, connection: Connection): void {
    connection.isClosing = true
    this.#closeWithin(CLOSING_MS, socket, connection)
  }

  #closeWithin(ms: number, socket: Socket, connection: Connection): void {
    const limit = this.#isClosing ? Math.min(ms, SHUTDOWN_WAIT_MS) : ms
    connection.deadline ??= setTimeout(() => socket.destroy(), limit).unref()
  }

  #handle(connection: Connection, request: DroppableRequest, response: Response, handle: Handler): void {
    const { socket } = request
    connection.current = response
    response.isLast = connection.isLast
    const peer = this.#peers.get(connection.address)
    peer?.unused.delete(socket)
    peer?.idle.delete(socket)
    response.once('close', () => {
      connection.current = undefined
      // Also after `Connection: close`: no further response can be sent (RFC 9112, 9.6).
      if (!socket.writable) return
      const next = connection.waiting.shift()
      if (next) {
        this.#waitingCount--
        this.#handle(connection, ...next, handle)
      } else if (connection.isClosing) {
        socket.end(connection.lastWords)
      } else if (!connection.isBeyondLimit) {
        this.#peers.get(connection.address)?.idle.add(socket)
      }
    })
    handle(request, response)
  }

  /**
   * Refuses requests that do not arrive completely while the server is closing, when Node no longer enforces
   * `requestTimeout`.
   */
  #refuseIncomplete(): void {
    const now = performance.now()
    for (const [socket, connection] of this.#all) {
      if (!this.#isClosing || connection.current?.req.complete) {
        connection.incompleteSince = now
      } else if (socket.writable && now - connection.incompleteSince >= SHUTDOWN_WAIT_MS) {
        // As Node itself reports it.
        const error = Object.assign(new Error('Request timeout'), { code: 'ERR_HTTP_REQUEST_TIMEOUT' })
        this.#server?.emit('clientError', error, socket)
      }
    }
  }

  /**
   * Closes connections whose clients do not read: those that stalled for too long and, if too much is waiting
   * in total, those that stalled the longest, and then those that have been reading the longest.
   */
  #closeSlowReaders(): void {
    const now = performance.now()
    const limit = this.#isClosing ? SHUTDOWN_WAIT_MS : MAX_STALL_MS
    const slow: [Socket, Connection][] = []
    const bodies = new Set<Buffer>()
    let unread = 0
    for (const [socket, connection] of this.#all) {
      const body = connection.current?.unsent
      if (body) bodies.add(body)
      const waiting = socket.writableLength
      const sent = socket.bytesWritten - waiting
      unread += waiting
      connection.unreadSince = waiting === 0 ? Infinity : Math.min(connection.unreadSince, now)
      // What was not waiting at the last check has not stalled yet.
      if (connection.unreadSince >= now || sent > connection.sentBytes) {
        connection.sentBytes = sent
        connection.stalledSince = now
      }
      if (now - connection.stalledSince >= limit) socket.destroy()
      else if (waiting > 0) slow.push([socket, connection])
    }
    for (const { length } of bodies) unread += length
    if (unread <= MAX_UNREAD_BYTES) return
    slow.sort(([, a], [, b]) => a.stalledSince - b.stalledSince || a.unreadSince - b.unreadSince)
    for (const [socket, { current }] of slow) {
      if (unread <= MAX_UNREAD_BYTES) break
      unread -= socket.writableLength + (current?.unsent?.length ?? 0)
      socket.destroy()
    }
  }
}
