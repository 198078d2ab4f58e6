import { once } from 'node:events'
import { createServer } from 'node:net'
import { StartError } from './start.ts'

/**
 * Looks whether the service will be able to listen, so that a port in use is known before anything is made.
 * @throws {StartError} with one sentence
 */
export async function checkAddress (host: string, port: number): Promise<void> {
  const probe = createServer().listen({ host, port })
  try {
    await once(probe, 'listening')
  } catch (error) {
    throw cannotListen(host, port, error as NodeJS.ErrnoException) // Node's own, of `listen` or of the look-up of the name.
  }
  probe.close()
  await once(probe, 'close')
}

/** Says why nothing can listen there, and what to do. */
export function cannotListen (host: string, port: number, error: NodeJS.ErrnoException): StartError {
  const sentences: Record<string, string> = {
    EADDRINUSE: `HTTP_PORT ${port} is in use: end the program that listens there, or set HTTP_PORT to another port`,
    EACCES: `HTTP_PORT ${port} may only be used by root: set HTTP_PORT to 1024 or above`,
    EADDRNOTAVAIL: `HTTP_HOST ${host} is not an address of this machine`,
    ENOTFOUND: `HTTP_HOST ${host} is not a known host name`,
    EAI_AGAIN: `HTTP_HOST ${host} is not a known host name`
  }
  return new StartError(sentences[error.code ?? ''] ?? `HTTP_HOST or HTTP_PORT cannot be used: ${error.message}`, { cause: error })
}
