import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Test } from 'tap'

/** A connection that sends and reads bytes as a test wants, whatever HTTP says. */
export interface RawClient {
  socket: Socket
  /** What has come so far. */
  text: () => string
  /** Resolves once `pattern` has come that many times; rejects when the connection ends before. */
  until: (pattern: RegExp, count?: number) => Promise<string>
  /** Resolves to all that came, when the other side has closed the connection. */
  closed: Promise<string>
}

/** @param options.reads false to leave everything that comes in the kernel */
export async function openRaw(
  t: Pick<Test, 'teardown'>,
  url: string,
  { reads = true, from = '127.0.0.1' }: { reads?: boolean; from?: string } = {}
): Promise<RawClient> {
  const { hostname, port } = new URL(url)
  const socket = connect({ host: hostname, port: Number(port), localAddress: from })
  let text = ''
  let isClosed = false
  const closed = new Promise<string>((resolve) =>
    socket.once('close', () => {
      isClosed = true
      resolve(text)
    })
  )
  socket.on('error', () => {}) // a reset closes it as well
  t.teardown(() => socket.destroy())
  await once(socket, 'connect')
  if (reads) {
    socket.setEncoding('latin1').on('data', (data) => {
      text += data
    })
  }
  const until = async (pattern: RegExp, count = 1) => {
    while ((text.match(new RegExp(pattern, 'g')) ?? []).length < count) {
      if (isClosed) throw new Error(`closed after ${text}`)
      await Promise.race([new Promise((resolve) => socket.once('data', resolve)), closed])
    }
    return text
  }
  return { socket, text: () => text, until, closed }
}

/** Resolves once `condition` holds. @throws {Error} naming `what` when it does not within that time */
export async function waitUntil(
  what: string,
  condition: () => boolean | Promise<boolean>,
  ms = 30_000
): Promise<void> {
  const deadline = Date.now() + ms
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`waited ${ms} ms in vain until ${what}`)
    await sleep(20)
  }
}
