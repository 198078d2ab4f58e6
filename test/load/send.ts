import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { Agent, type IncomingMessage, request } from 'node:http'
import { text } from 'node:stream/consumers'
import { post, type Request } from './scenarios.ts'

const PATIENCE_MS = 10_000
const agent = new Agent({ keepAlive: true })

/** Sends by Node's own client: what `fetch` leaves to be collected would be in the slowest hundredth of the times. */
export async function send (url: string, { path, body, ...options }: Request): Promise<{ status: number, body: string }> {
  const [response] = await once(request(`${url}${path}`, { agent, signal: AbortSignal.timeout(PATIENCE_MS), ...options }).end(body), 'response') as [IncomingMessage]
  return { status: response.statusCode ?? 0, body: await text(response) }
}

/** @returns the body of an answer with this status */
async function expect (url: string, request: Request, status: number): Promise<string> {
  const answer = await send(url, request)
  if (answer.status !== status) throw new Error(`${request.path} answered ${answer.status}: ${answer.body.slice(0, 200)}`)
  return answer.body
}

/** @returns how long a request takes, in milliseconds */
export async function time (url: string, request: Request, status: number): Promise<number> {
  const started = performance.now()
  await expect(url, request, status)
  return performance.now() - started
}

/** Registers somebody new. @returns their token */
export async function register (url: string): Promise<string> {
  const account = { nickname: `load ${randomBytes(8).toString('hex')}`, password: randomBytes(16).toString('hex') }
  return (JSON.parse(await expect(url, post('/api/register', account), 201)) as { token: string }).token
}

/** Posts a message. @returns its id */
export async function say (url: string, text: string, token = ''): Promise<number> {
  return (JSON.parse(await expect(url, post('/api/messages', { text }, token), 201)) as { id: number }).id
}
