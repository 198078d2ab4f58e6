import { once } from 'node:events'
import { connect, isIP, type LookupFunction } from 'node:net'
import type { Address } from './engine-addresses.ts'

/**
 * Checks that something accepts connections at an address.
 * @param options.timeoutMs covers the DNS lookup and the connection together
 * @param options.lookup resolves names; Node's own by default
 * @param options.signal aborts the attempt
 * @throws {Error} with a message that distinguishes a DNS failure from an engine that does not answer
 */
export async function reach(
  address: Address,
  { timeoutMs, lookup, signal }: { timeoutMs: number; lookup?: LookupFunction; signal?: AbortSignal }
): Promise<void> {
  const socket = connect({
    ...address,
    timeout: timeoutMs,
    ...(lookup && { lookup }),
    ...(signal && { signal })
  })
  const { host } = { host: '', ...address }
  let isResolved = host === '' || isIP(host) !== 0
  socket.on('lookup', () => {
    isResolved = true
  })
  socket.on('timeout', () => {
    const silent = isResolved ? 'no answer' : `DNS did not answer for ${host}`
    socket.destroy(new Error(`${silent} within ${timeoutMs / 1000} s`))
  })
  try {
    await once(socket, 'connect')
  } catch (error) {
    throw explain(error as NodeJS.ErrnoException, host)
  } finally {
    socket.destroy()
  }
}

function explain(error: NodeJS.ErrnoException, host: string): Error {
  if (error.code === 'ENOTFOUND') return new Error(`DNS has no address for ${host}`, { cause: error })
  if (error.code === 'EAI_AGAIN') return new Error(`DNS did not answer for ${host}`, { cause: error })
  return error
}
