import type { Wire } from './wire.ts'

interface Content {
  headers?: Record<string, string>
  /** JSON. */
  body?: string
}

/** A request as the bytes that go over the wire. */
export function http(method: string, path: string, { headers, body }: Content = {}): string {
  const all: Record<string, string> = { host: 'chat', ...headers }
  if (body !== undefined) {
    all['content-type'] = 'application/json'
    all['content-length'] = `${Buffer.byteLength(body)}`
  }
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`)
  return `${method} ${path} HTTP/1.1\r\n${lines.join('')}\r\n${body ?? ''}`
}

export const bearer = (token: string) => ({ authorization: `Bearer ${token}` })

/** How many there are of each. */
export function count(values: (string | number)[]): Record<string, number> {
  const counts: Record<string, number> = {}
  for (const value of values) counts[value] = (counts[value] ?? 0) + 1
  return counts
}

/** How many answers of each status came on all these connections. */
export function statusesOf(wires: Wire[]): Record<string, number> {
  const counts: Record<string, number> = {}
  for (const { statuses } of wires) {
    for (const [status, times] of Object.entries(statuses)) counts[status] = (counts[status] ?? 0) + times
  }
  return counts
}
