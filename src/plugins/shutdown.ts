import type { Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { onSendHookHandler, preHandlerHookHandler } from 'fastify'
import fp from 'fastify-plugin'
import type { Connections } from '../http/connections.ts'

declare module 'fastify' {
  interface FastifyInstance {
    drain: {
      hasBegun: boolean
      /** How many requests in flight may change something. */
      changes: number
    }
  }
  interface FastifyRequest {
    /** Whether it counts as one of `drain.changes`. */
    isChanging: boolean
  }
}

const EVERY_MS = 50

/**
 * Graceful shutdown. Decorates the instance with `drain`: once it has begun, readyz is 503 and responses
 * carry `Connection: close`, but all requests are still served. `close()` then waits for the requests in
 * flight, even if their clients are gone, before any plugin registered earlier closes. Idle connections do
 * not delay it.
 */
export default fp<{ connections: Connections }>(
  async (app, { connections }) => {
    app.decorate('drain', { hasBegun: false, changes: 0 })
    connections.isDraining = () => app.drain.hasBegun
    // A counter, not a Set of requests: when V8 replaces the table of a Set, the old table points to the new
    // one, and in the old generation of the heap such a chain keeps all requests alive until the next full
    // collection (test/process/heap.test.ts).
    app.decorateRequest('isChanging', false)
    const begin: preHandlerHookHandler = (request, _reply, done) => {
      request.isChanging = true
      app.drain.changes++
      done()
    }
    const end: onSendHookHandler = (request, _reply, payload, done) => {
      if (request.isChanging) app.drain.changes--
      request.isChanging = false
      done(null, payload)
    }
    app.addHook('onRoute', (route) => {
      if (route.method === 'GET' || route.method === 'HEAD') return
      route.preHandler = [begin, ...[route.preHandler ?? []].flat()]
      route.onSend = [...[route.onSend ?? []].flat(), end]
    })

    const sockets = new Set<Socket>()
    app.server.on('connection', (socket) => {
      sockets.add(socket)
      socket.once('close', () => sockets.delete(socket))
    })
    let sweep: NodeJS.Timeout | undefined
    app.addHook('preClose', async () => {
      app.drain.hasBegun = true
      // Node does not count a connection as idle before its first request, nor close one that becomes idle
      // later.
      sweep = setInterval(() => {
        app.server.closeIdleConnections()
        for (const socket of sockets) if (socket.bytesRead === 0) socket.destroy()
      }, EVERY_MS)
    })
    app.addHook('onClose', async () => {
      clearInterval(sweep)
      while (app.drain.changes > 0) await sleep(EVERY_MS)
    })
  },
  { name: 'drain' }
)
