import type { Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyRequest, onSendHookHandler, preHandlerHookHandler } from 'fastify'
import fp from 'fastify-plugin'
import type { Connections } from '../http/connections.ts'

declare module 'fastify' {
  interface FastifyInstance {
    drain: { hasBegun: boolean }
  }
}

const EVERY_MS = 50

/**
 * Graceful shutdown. Decorates the instance with `drain`: from `hasBegun` on, readyz and `Connection: close`
 * send clients elsewhere, while those who are here are still served. `close()` then waits for all answers,
 * and for changes whose client has gone as well, before any plugin registered earlier closes; connections
 * that ask for nothing don't hold it up.
 */
export default fp<{ connections: Connections }>(
  async (app, { connections }) => {
    app.decorate('drain', { hasBegun: false })
    connections.isDraining = () => app.drain.hasBegun
    const changes = new Set<FastifyRequest>()
    const begin: preHandlerHookHandler = (request, _reply, done) => {
      changes.add(request)
      done()
    }
    const end: onSendHookHandler = (request, _reply, payload, done) => {
      changes.delete(request)
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
      // To Node, a connection is not idle before its first request, nor does it end one that becomes idle
      // from now on.
      sweep = setInterval(() => {
        app.server.closeIdleConnections()
        for (const socket of sockets) if (socket.bytesRead === 0) socket.destroy()
      }, EVERY_MS)
    })
    app.addHook('onClose', async () => {
      clearInterval(sweep)
      while (changes.size > 0) await sleep(EVERY_MS)
    })
  },
  { name: 'drain' }
)
