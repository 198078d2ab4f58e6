import { once } from 'node:events'
import { get, type IncomingMessage } from 'node:http'
import type { Test } from 'tap'

/** One event of a stream, with its data parsed. */
export interface StreamEvent {
  id: number
  // eslint-disable-next-line @typescript-eslint/no-explicit-any -- whatever the service sends
  data: any
}

export interface Stream {
  response: IncomingMessage
  /** What has come so far, as it came. */
  text: () => string
  /** Resolves to the events so far, once there are that many. */
  events: (count: number) => Promise<StreamEvent[]>
  /** Resolves when the other side has ended it. */
  ended: Promise<unknown>
  close: () => void
}

const parseEvents = (text: string): StreamEvent[] =>
  [...text.matchAll(/^id: (\d+)\ndata: (.+)\n\n/gm)].map(([, id, data]) => ({
    id: Number(id),
    data: JSON.parse(data!)
  }))

/** Opens `GET /api/events`. @param query such as `?since=5` */
export async function openStream(
  t: Test,
  url: string,
  query = '',
  headers: Record<string, string> = {}
): Promise<Stream> {
  const request = get(`${url}/api/events${query}`, { headers, agent: false })
  const [response] = (await once(request, 'response')) as [IncomingMessage]
  const chunks: string[] = []
  const events: StreamEvent[] = []
  let rest = ''
  response
    .setEncoding('utf8')
    .on('data', (data) => {
      chunks.push(data)
      // The empty line that ends an event may itself come in two chunks.
      const endsEvent = data.includes('\n\n') || (data.startsWith('\n') && rest.endsWith('\n'))
      rest += data
      if (!endsEvent) return
      const end = rest.lastIndexOf('\n\n') + 2
      events.push(...parseEvents(rest.slice(0, end)))
      rest = rest.slice(end)
    })
    .on('error', () => {})
  const text = () => chunks.join('')
  const ended = new Promise((resolve) => response.on('close', resolve))
  const close = () => request.destroy()
  t.teardown(close)
  return {
    response,
    text,
    events: async (count) => {
      const endedEarly = ended.then(() => {
        throw new Error(`ended after ${text()}`)
      })
      endedEarly.catch(() => {})
      while (events.length < count) {
        await Promise.race([new Promise((resolve) => response.once('data', resolve)), endedEarly])
      }
      return [...events]
    },
    ended,
    close
  }
}
