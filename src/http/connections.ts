import { createServer, IncomingMessage, type Server, type ServerOptions } from 'node:http'
import type { Socket } from 'node:net'
import { PacedResponse } from './paced-response.ts'

/** How many requests may wait behind the one that is handled, on one connection. */
export const MAX_PIPELINED = 16
/** How many requests may wait behind others, on all connections together. */
export const MAX_PIPELINED_IN_TOTAL = 10_000
/**
 * How many requests are kept in total that came beyond those limits. Node forgets them when their connection
 * closes, and each takes about 1.5 KiB until then.
 */
const MAX_DROPPED_IN_TOTAL = 20_000
/**
 * How many connections beyond the limit are let in to ask for the health, so that a full process is not
 * killed as a dead one.
 */
const RESERVE = 100
/** How long a connection beyond the limit may take to ask for it. */
const RESERVE_MS = 5000
/** How long a new connection may take to send its first request before it makes room for others. */
const FIRST_REQUEST_MS = 1000
/** How long a connection that is to be closed may take to read what it still gets. */
const CLOSING_MS = 10_000
/** How long a client may leave an answer unread. */
export const MAX_STALL_MS = 30_000
/** How many bytes of answers may wait for clients to read them, in total. */
const MAX_UNREAD_BYTES = 64 * 1024 * 1024
const SWEEP_MS = 1000

type Handler = (request: DroppableRequest, response: PacedResponse) => void

/**
 * When a connection closes, Node destroys each of its requests that was not answered, with an error of its
 * own whose stack it formats. A client that pipelines thousands of small requests would take a whole
 * processor by that alone, so a request that is dropped is left to the garbage collector.
 */
class DroppableRequest extends IncomingMessage {
  isDropped = false

  override destroy(error?: Error): this {
    return this.isDropped ? this : super.destroy(error)
  }
}

/** What is known of one connection. */
interface Connection {
  readonly address: string
  readonly isBeyondLimit: boolean
  /** The answer under way. Node emits `close` for this one alone when the client goes away. */
  current: PacedResponse | undefined
  readonly waiting: [DroppableRequest, PacedResponse][]
  /** How many requests came that are never answered. */
  dropped: number
  isClosing: boolean
  /** Whether the answer whose head is sent now is the last one. */
  readonly isLast: () => boolean
  /** Closes the connection in the end, whatever its client does. */
  deadline: NodeJS.Timeout | undefined
  /** Sent before the connection is closed. */
  lastWords: string
  /**
   * What was sent when it was last looked at, and since when that has not grown although more waits to be
   * sent.
   */
  sentBytes: number
  stalledSince: number
}

/** The connections from one address. */
interface Peer {
  count: number
  /** Those that have sent no request yet, with the time when they were opened, the oldest first. */
  unused: Map<Socket, number>
  /** Those that wait for a further request, the one that was idle for the longest time first. */
  idle: Set<Socket>
}

/**
 * The connections of this process. On each of them, one request is handled at a time, whatever was pipelined:
 * so everything that a request holds is bounded by the number of connections, and is released when its
 * connection closes.
 */
export class Connections {
  #limit: number
  #all = new Map<Socket, Connection>()
  #peers = new Map<string, Peer>()
  /** The connections for which there was no room, the oldest first. */
  #beyondLimit = new Set<Socket>()
  #waitingCount = 0
  #droppedCount = 0
  /**
   * Whether connections are to be closed after the answers to what has come on them, whose heads then say so,
   * those of answers under way included.
   */
  isDraining: () => boolean = () => false
  #sweep = setInterval(() => this.#closeStalled(), SWEEP_MS).unref()

  /** @param limit how many connections may be open at once */
  constructor(limit: number) {
    this.#limit = limit
  }

  get size(): number {
    return this.#all.size
  }

  /** Makes a server whose requests reach `handle` one at a time for each connection. */
  createServer(options: ServerOptions, handle: Handler): Server {
    const server = createServer({
      ...options,
      IncomingMessage: DroppableRequest,
      ServerResponse: PacedResponse
    })
    server.on('connection', (socket) => this.#add(socket))
    const dispatch: Handler = (request, response) => this.#dispatch(request, response, handle)
    server.on('request', dispatch)
    // Node would answer 417 to an unknown expectation with an empty body.
    server.on('checkExpectation', dispatch)
    return server
  }

  /** Whether there was no room for this connection, so that it may ask for the health alone. */
  isBeyondLimit(socket: Socket): boolean {
    return this.#all.get(socket)?.isBeyondLimit ?? false
  }

  /**
   * Answers bytes that are no HTTP, after the answers to what came before them, and closes the connection.
   */
  refuse(socket: Socket, answer: string): void {
    const connection = this.#all.get(socket)
    const current = connection?.current
    if (!connection || !socket.writable) return
    if (current?.req.complete && (current.isEnding || !current.headersSent)) {
      connection.lastWords = answer
      this.#closeAfterAnswers(socket, connection)
    } else if (current?.headersSent) {
      socket.destroy() // in the middle of an answer, of which the client would take this for a part
    } else {
      socket.end(answer)
      this.#closeWithin(CLOSING_MS, socket, connection)
    }
  }

  close(): void {
    clearInterval(this.#sweep)
  }

  #add(socket: Socket): void {
    const address = socket.remoteAddress ?? ''
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
      stalledSince: performance.now()
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
    clearTimeout(connection.deadline) // It would keep the connection in memory, with all that was dropped.
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
   * Makes room by closing the connection that has been idle for the longest time, of the address that has the
   * most. One that has just been opened is left alone: its request, perhaps for the health, is on its way.
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
   * Closes the oldest of the connections beyond the limit, so that whoever asks for the health now finds
   * room.
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

  #dispatch(request: DroppableRequest, response: PacedResponse, handle: Handler): void {
    const { socket } = request
    const connection = this.#all.get(socket)
    if (connection === undefined) {
      request.isDropped = true
    } else if (connection.isClosing) {
      this.#drop(socket, connection, request)
    } else if (connection.current === undefined) {
      this.#handle(connection, request, response, handle)
    } else if (connection.waiting.length < MAX_PIPELINED && this.#waitingCount < MAX_PIPELINED_IN_TOTAL) {
      connection.waiting.push([request, response])
      this.#waitingCount++
    } else {
      // What is beyond is never answered, so its client must send it again (RFC 9112, 9.3.2).
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

  #closeAfterAnswers(socket: Socket, connection: Connection): void {
    connection.isClosing = true
    this.#closeWithin(CLOSING_MS, socket, connection)
  }

  #closeWithin(ms: number, socket: Socket, connection: Connection): void {
    connection.deadline ??= setTimeout(() => socket.destroy(), ms).unref()
  }

  #handle(connection: Connection, request: DroppableRequest, response: PacedResponse, handle: Handler): void {
    const { socket } = request
    connection.current = response
    response.isLast = connection.isLast
    const peer = this.#peers.get(connection.address)
    peer?.unused.delete(socket)
    peer?.idle.delete(socket)
    response.once('close', () => {
      connection.current = undefined
      if (socket.destroyed) return
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
   * Closes connections whose clients do not read: those that stopped for too long, and the longest of them
   * where too much waits in total.
   */
  #closeStalled(): void {
    const now = performance.now()
    const stalled: [Socket, Connection][] = []
    const bodies = new Set<Buffer>()
    let unread = 0
    for (const [socket, connection] of this.#all) {
      const body = connection.current?.unsent
      if (body) bodies.add(body)
      const waiting = socket.writableLength
      const sent = socket.bytesWritten - waiting
      unread += waiting
      if (waiting === 0 || sent > connection.sentBytes) {
        connection.sentBytes = sent
        connection.stalledSince = now
      } else if (now - connection.stalledSince >= MAX_STALL_MS) {
        socket.destroy()
      } else {
        stalled.push([socket, connection])
      }
    }
    for (const { length } of bodies) unread += length
    stalled.sort(([, a], [, b]) => a.stalledSince - b.stalledSince)
    for (const [socket, { current }] of stalled) {
      if (unread <= MAX_UNREAD_BYTES) break
      unread -= socket.writableLength + (current?.unsent?.length ?? 0)
      socket.destroy()
    }
  }
}
