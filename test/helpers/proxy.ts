import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'

/** A wire to a real engine that a test can cut, freeze and mend. */
export interface Proxy {
  port: number
  /** Ends every connection and refuses new ones, as an engine that is down. */
  cut: () => Promise<void>
  /** Passes nothing on any more, but keeps every connection, as an engine that hangs. */
  freeze: () => void
  /**
   * Passes nothing more on for the connections that are there, without a word to either side, but works for
   * new ones.
   */
  blackhole: () => void
  /** Leads new connections to another engine; those that are there stay where they are. */
  redirect: (port: number) => void
  /** Works again; what was frozen goes on. */
  mend: () => Promise<void>
  /** Passes no request to cancel a statement on to PostgreSQL any more. */
  swallowCancels: () => void
}

/**
 * Whether a connection to PostgreSQL begins with a request to cancel:
 * https://www.postgresql.org/docs/current/protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-CANCELREQUEST
 */
const isCancelRequest = (bytes: Buffer) => bytes.length >= 8 && bytes.readInt32BE(4) === 80877102

export async function startProxy(
  t: { teardown: (work: () => unknown) => void },
  host: string,
  targetPort: number
): Promise<Proxy> {
  const sockets = new Set<Socket>()
  let frozen = false
  let swallowsCancels = false
  let currentPort = targetPort
  const server = createServer((client) => {
    const target = connect(currentPort, host)
    client.once('data', (bytes) => {
      if (swallowsCancels && isCancelRequest(bytes)) target.destroy()
    })
    for (const [from, to] of [
      [client, target],
      [target, client]
    ] as const) {
      sockets.add(from)
      from
        .on('error', () => {})
        .on('close', () => {
          sockets.delete(from)
          to.destroy()
        })
      from.pipe(to)
      if (frozen) from.pause()
    }
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const cut = async () => {
    const closed = server.listening ? once(server, 'close') : undefined
    server.close()
    for (const socket of sockets) socket.destroy()
    await closed
  }
  t.teardown(cut)
  return {
    port,
    cut,
    freeze: () => {
      frozen = true
      for (const socket of sockets) socket.pause()
    },
    blackhole: () => {
      for (const socket of sockets) socket.unpipe().resume()
    },
    redirect: (port) => {
      currentPort = port
    },
    swallowCancels: () => {
      swallowsCancels = true
    },
    mend: async () => {
      frozen = false
      for (const socket of sockets) socket.resume()
      if (!server.listening) await once(server.listen(port, '127.0.0.1'), 'listening')
    }
  }
}
