import { once } from 'node:events'
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http'
import { type AddressInfo, connect, createServer as createTcpServer, type Socket } from 'node:net'
import type { Test } from 'tap'

/**
 * A proxy in front of the service that cuts each connection after some bytes of its answers, wherever that is
 * in an event.
 * @param nextBytes how many bytes the next connection lets through
 */
export async function startCuttingProxy(t: Test, target: string, nextBytes: () => number) {
  const { hostname, port } = new URL(target)
  const sockets = new Set<Socket>()
  let cuts = 0
  const server = createTcpServer((client) => {
    let left = nextBytes()
    const upstream = connect(Number(port), hostname)
    const end = () => {
      client.destroy()
      upstream.destroy()
    }
    for (const socket of [client, upstream]) {
      sockets.add(socket)
      socket.on('error', () => {}).on('close', end)
    }
    client.pipe(upstream)
    upstream.on('data', (bytes: Buffer) => {
      if (bytes.length < left) {
        left -= bytes.length
        client.write(bytes)
      } else {
        cuts++
        upstream.destroy()
        client.write(bytes.subarray(0, left), end)
      }
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, cuts: () => cuts }
}

/** What a proxy does with the streams of events. */
export type StreamHandling =
  /** holds back the whole response until it is complete, which it never is */
  | 'hold the response'
  /** sends the headers, and holds back the body */
  | 'hold the body'
  /** answers itself, with this status */
  | number
  | 'pass'

/** An HTTP proxy that passes on everything but streams of events. */
export async function startStreamProxy(t: Test, target: string) {
  const proxy = {
    url: '',
    streams: 'pass' as StreamHandling,
    /** Whether a request gets no answer, but its connection is cut. */
    cuts: (_url: string) => false,
    /** How many requests came for that path. */
    requests: (path: string) => paths.filter((it) => it === path).length
  }
  const paths: string[] = []
  const pass = (incoming: IncomingMessage, outgoing: ServerResponse) => {
    const { method, headers, url = '' } = incoming
    const [path = ''] = url.split('?')
    paths.push(path)
    if (proxy.cuts(url)) {
      outgoing.destroy()
      return
    }
    const handling = path === '/api/events' ? proxy.streams : 'pass'
    if (typeof handling === 'number') {
      outgoing.writeHead(handling).end('not here')
      return
    }
    const upstream = request(`${target}${url}`, { method, headers, agent: false }, (answer) => {
      if (handling !== 'hold the response') {
        outgoing.writeHead(answer.statusCode ?? 502, answer.headers)
        outgoing.flushHeaders()
      }
      if (handling === 'pass') answer.pipe(outgoing)
      else answer.resume()
    })
    upstream.on('error', () => outgoing.destroy())
    outgoing.on('close', () => upstream.destroy())
    incoming.pipe(upstream)
  }
  const server = createServer(pass).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    server.closeAllConnections()
  })
  proxy.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return proxy
}
