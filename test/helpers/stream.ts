import { once } from 'node:events'
import { get, type IncomingMessage } from 'node:http'
import type { Test } from 'tap'

/** One event of a stream, with its data parsed. */
export interface StreamEvent { id: number, data: any } // eslint-disable-line @typescript-eslint/no-explicit-any

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

const parseEvents = (text: string): StreamEvent[] => [...text.matchAll(/^id: (\d+)\ndata: (.+)\n\n/gm)].map(([, id, data]) =>
  ({ id: Number(id), data: JSON.parse(data!) }))

/** Opens `GET /api/events`. @param query such as `?since=5` */
export async function openStream (t: Test, url: string, query = '', headers: Record<string, string> = {}): Promise<Stream> {
  const request = get(`${url}/api/events${query}`, { headers, agent: false })
  const [response] = await once(request, 'response') as [IncomingMessage]
  let text = ''
  response.setEncoding('utf8').on('data', (data) => { text += data }).on('error', () => {})
  const ended = new Promise((resolve) => response.on('close', resolve))
  const close = () => request.destroy()
  t.teardown(close)
  return {
    response,
    text: () => text,
    events: async (count) => {
      while (parseEvents(text).length < count) await Promise.race([new Promise((resolve) => response.once('data', resolve)), ended.then(() => { throw new Error(`ended after ${text}`) })])
      return parseEvents(text)
    },
    ended,
    close
  }
}
