import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import {
  Agent,
  type IncomingHttpHeaders,
  type IncomingMessage,
  request,
  type RequestOptions
} from 'node:http'
import { text } from 'node:stream/consumers'
import { post, type Request } from './scenarios.ts'

const TIMEOUT_MS = 10_000
const agent = new Agent({ keepAlive: true })

/**
 * Sends by Node's own client: what `fetch` leaves to be collected would be in the slowest hundredth of the
 * times.
 * @param how what differs from a connection that is kept alive, such as the address to send from
 */
export async function send(
  url: string,
  { path, body, ...options }: Omit<Request, 'method'> & { method?: string },
  how: RequestOptions = {}
): Promise<{ status: number; headers: IncomingHttpHeaders; body: string }> {
  const sent = request(`${url}${path}`, {
    agent,
    signal: AbortSignal.timeout(TIMEOUT_MS),
    ...options,
    ...how
  }).end(body)
  const [response] = (await once(sent, 'response')) as [IncomingMessage]
  sent.on('error', () => {}) // A connection that breaks from now on is the body's error, too.
  return { status: response.statusCode ?? 0, headers: response.headers, body: await text(response) }
}

/** @returns the body of an answer with this status */
async function expect(url: string, request: Request, status: number): Promise<string> {
  const answer = await send(url, request)
  if (answer.status !== status) {
    throw new Error(`${request.path} answered ${answer.status}: ${answer.body.slice(0, 200)}`)
  }
  return answer.body
}

/** @returns how long a request takes, in milliseconds */
export async function time(url: string, request: Request, status: number): Promise<number> {
  const started = performance.now()
  await expect(url, request, status)
  return performance.now() - started
}

/** Registers somebody new. @returns their token */
export async function register(url: string): Promise<string> {
  const account = {
    nickname: `load ${randomBytes(8).toString('hex')}`,
    password: randomBytes(16).toString('hex')
  }
  return (JSON.parse(await expect(url, post('/api/register', account), 201)) as { token: string }).token
}

/** Posts a message. @returns its id */
export async function say(url: string, text: string, token = ''): Promise<number> {
  return (JSON.parse(await expect(url, post('/api/messages', { text }, token), 201)) as { id: number }).id
}
