import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import type { Random, World } from './world.ts'

const CHANCE = 0.1
const CR_LF = '\r\n'
const PUBLICATION = /^[*>]3\r\n\$7\r\nmessage\r\n/
const PUBLICATION_LENGTH = 17

/** How many parts follow a line of each type: https://redis.io/docs/latest/develop/reference/protocol-spec/ */
const PARTS: Record<string, number> = { '*': 1, '>': 1, '~': 1, '%': 2 }
const STRINGS = '$=!'

/** @returns where the reply that begins at `start` ends; undefined if it is not complete */
function endOfReply(bytes: Buffer, start: number): number | undefined {
  const lineEnd = bytes.indexOf(CR_LF, start)
  if (lineEnd < 0) return undefined
  const type = bytes.toString('latin1', start, start + 1)
  const length = Number(bytes.toString('latin1', start + 1, lineEnd))
  let end: number | undefined = lineEnd + CR_LF.length
  if (STRINGS.includes(type) && length >= 0) {
    end += length + CR_LF.length
    return end <= bytes.length ? end : undefined
  }
  for (let left = length * (PARTS[type] ?? 0); left > 0 && end !== undefined; left--) {
    end = endOfReply(bytes, end)
  }
  return end
}

/** Passes on what Redis sends to one client, but loses, repeats or delays some publications. */
function damage(world: World, random: Random, client: Socket): (bytes: Buffer) => void {
  let rest = Buffer.alloc(0)
  let held: Buffer[] = []
  const pass = (reply: Buffer) => {
    if (!PUBLICATION.test(reply.toString('latin1', 0, PUBLICATION_LENGTH))) {
      client.write(reply)
    } else if (random.chance(CHANCE)) {
      world.count('publications lost')
    } else if (random.chance(CHANCE)) {
      world.count('publications doubled')
      client.write(Buffer.concat([reply, reply]))
    } else if (random.chance(CHANCE)) {
      world.count('publications out of order')
      held.push(reply)
    } else {
      client.write(Buffer.concat([reply, ...held]))
      held = []
    }
  }
  return (bytes) => {
    rest = Buffer.concat([rest, bytes])
    let start = 0
    for (let end = endOfReply(rest, 0); end !== undefined; end = endOfReply(rest, end)) {
      pass(rest.subarray(start, end))
      start = end
    }
    rest = rest.subarray(start)
  }
}

/** A way to Redis on which some publications get lost, are repeated, or come after later ones. */
export async function startLossyRedis(
  world: World,
  target: number
): Promise<{ port: number; stop: () => void }> {
  const random = world.random('lossy Redis')
  const sockets = new Set<Socket>()
  const server = createServer((client) => {
    const redis = connect(target, '127.0.0.1')
    client.pipe(redis)
    redis.on('data', damage(world, random, client))
    for (const [socket, other] of [
      [client, redis],
      [redis, client]
    ] as const) {
      sockets.add(socket)
      socket
        .on('error', () => {})
        .on('close', () => {
          sockets.delete(socket)
          other.destroy()
        })
    }
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const stop = () => {
    server.close()
    for (const socket of sockets) socket.destroy()
  }
  return { port: (server.address() as AddressInfo).port, stop }
}
