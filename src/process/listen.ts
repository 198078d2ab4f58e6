import { once } from 'node:events'
import { createServer } from 'node:net'
import { withoutBrackets } from '../lib/engine-addresses.ts'
import { type Config, isExternal } from '../config.ts'
import { StartError } from '../lib/start-error.ts'

const LOOPBACK = ['127.0.0.1', '::1']
// `::` covers IPv4 too, because Node turns IPV6_V6ONLY off. `0.0.0.0` is for kernels without IPv6.
const ANY = ['::', '0.0.0.0']

/**
 * Chooses the addresses to listen on: `HTTP_HOST`; otherwise all addresses, or loopback if both engines are
 * embedded. It tries each of them first, so that a port in use stops the start before anything is created.
 * @throws {StartError}
 */
export async function findHosts(config: Config, probe = tryToListen): Promise<string[]> {
  const { HTTP_HOST: host, HTTP_PORT: port } = config
  const isEmbedded = !isExternal('postgres', config) && !isExternal('redis', config)
  if (host === 'localhost' || (host === undefined && isEmbedded)) return available(LOOPBACK, port, probe)
  const candidates = host === undefined ? ANY : [withoutBrackets(host)]
  return (await available(candidates, port, probe)).slice(0, 1)
}

/**
 * Filters out the addresses that this machine does not have.
 * @throws {StartError} if none is left, or the port is in use
 */
async function available(hosts: string[], port: number, probe: typeof tryToListen): Promise<string[]> {
  const found: string[] = []
  let missing: StartError | undefined
  for (const host of hosts) {
    try {
      await probe(host, port)
      found.push(host)
    } catch (error) {
      const reason = error as NodeJS.ErrnoException // from `listen` or from the DNS lookup
      missing = cannotListen(host, port, reason)
      if (!['EADDRNOTAVAIL', 'EAFNOSUPPORT'].includes(reason.code ?? '')) throw missing
    }
  }
  if (found.length === 0 && missing !== undefined) throw missing
  return found
}

async function tryToListen(host: string, port: number): Promise<void> {
  const probe = createServer().listen({ host, port })
  await once(probe, 'listening')
  probe.close()
  await once(probe, 'close')
}

/** Explains why the service cannot listen there, and what to do about it. */
export function cannotListen(host: string, port: number, error: NodeJS.ErrnoException): StartError {
  const sentences: Record<string, string> = {
    EADDRINUSE:
      `HTTP_PORT ${port} is in use: ` +
      'end the program that listens there, or set HTTP_PORT to another port',
    EACCES: `HTTP_PORT ${port} may only be used by root: set HTTP_PORT to 1024 or above`,
    EADDRNOTAVAIL: `HTTP_HOST ${host} is not an address of this machine`,
    EAFNOSUPPORT: `HTTP_HOST ${host} is an IPv6 address, and this machine has none`,
    ENOTFOUND: `HTTP_HOST ${host} is not a known host name`,
    EAI_AGAIN: `HTTP_HOST ${host} is not a known host name`
  }
  return new StartError(
    sentences[error.code ?? ''] ?? `HTTP_HOST or HTTP_PORT cannot be used: ${error.message}`,
    { cause: error }
  )
}
