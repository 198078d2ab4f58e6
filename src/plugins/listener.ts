import { once } from 'node:events'
import { type AddressInfo, createServer, type Server } from 'node:net'
import fp from 'fastify-plugin'

// How many connections may wait to be accepted. libuv 1.45 accepts one in each turn of the event loop. With
// Node's default of 511, a thousand new connections a second fill the queue, and the next client is only
// accepted when it retries after a second.
const BACKLOG = 1024

declare module 'fastify' {
  interface FastifyInstance {
    /** Listens on all of these addresses, on the same port. @returns the port, a free one if `port` is 0 */
    listenOn: (hosts: string[], port: number) => Promise<number>
  }
}

/**
 * Listens on several addresses with one HTTP server, so that it owns all connections. (Fastify listens on
 * `localhost` with a second server, which is not `app.server`.)
 */
export default fp(
  async (app) => {
    const others: Server[] = []
    app.decorate('listenOn', async ([first = '', ...more], wanted) => {
      await app.listen({ host: first, port: wanted, backlog: BACKLOG })
      const { port } = app.server.address() as AddressInfo // It listens on a port, not on a socket.
      for (const host of more) {
        // As an HTTP server does it: https://nodejs.org/api/http.html#event-connection
        const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) =>
          app.server.emit('connection', socket)
        )
        await once(server.listen({ host, port, backlog: BACKLOG }), 'listening')
        others.push(server)
      }
      return port
    })

    let closed: Promise<unknown> | undefined
    app.addHook('preClose', async () => {
      closed = Promise.all(others.map((server) => once(server.close(), 'close')))
    })
    app.addHook('onClose', async () => {
      await closed
    })
  },
  { name: 'listener' }
)
