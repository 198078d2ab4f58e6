import type { Test } from 'tap'
import { ChatClient } from '../../client/index.js'
import type { ClientOptions, FollowEvent, FollowOptions } from '../../client/types.ts'
import { waitUntil } from './raw.ts'

/** Follows the room in the background. */
export function startFollowing(
  t: Pick<Test, 'teardown'>,
  url: string,
  { timeoutMs, ...options }: FollowOptions & Pick<ClientOptions, 'timeoutMs'> = {}
) {
  const client = new ChatClient({ url, ...(timeoutMs && { timeoutMs }) })
  const controller = new AbortController()
  const events: FollowEvent[] = []
  const errors: Error[] = []
  const { signal } = controller
  const onRetry = (error: Error) => errors.push(error)
  const ended = (async () => {
    for await (const event of client.follow({ signal, onRetry, ...options })) {
      events.push(event)
    }
  })()
  ended.catch(() => {}) // whoever wants to know waits for it
  const stop = () => {
    controller.abort()
    return ended
  }
  t.teardown(() => stop().catch(() => {}))
  return {
    events,
    errors,
    ended,
    stop,
    /** Resolves to the events so far, in short, once there are that many. */
    until: async (count: number) => {
      await waitUntil(`event ${count} has come`, () => events.length >= count, 30_000)
      return events.map(inShort)
    }
  }
}

const inShort = (event: FollowEvent): string => {
  switch (event.type) {
    case 'list':
    case 'reset':
      return `${event.type}: ${event.messages.map(({ text }) => text).join(', ')}`
    case 'message_created':
    case 'message_updated':
      return `${event.type}: ${event.message.text}`
    case 'message_deleted':
      return `${event.type}: ${event.id}`
    case 'room_updated':
      return `${event.type}: ${event.room.topic}`
  }
}
