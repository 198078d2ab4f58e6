import { Type } from '@sinclair/typebox'
import { Message } from './messages.ts'
import { Room } from './room.ts'

/** The events of the stream: one schema for each `kind` in the event log. */
export const events = {
  message_created: Type.Object(
    { type: Type.Literal('message_created'), message: Message },
    { title: 'MessageCreatedEvent', description: 'A message was posted.' }
  ),
  message_updated: Type.Object(
    { type: Type.Literal('message_updated'), message: Message },
    { title: 'MessageUpdatedEvent', description: 'A message was edited.' }
  ),
  message_deleted: Type.Object(
    { type: Type.Literal('message_deleted'), id: Type.Integer() },
    { title: 'MessageDeletedEvent', description: 'A message was deleted.' }
  ),
  room_updated: Type.Object(
    { type: Type.Literal('room_updated'), room: Room },
    { title: 'RoomUpdatedEvent', description: 'The settings of the room changed.' }
  ),
  reset: Type.Object(
    { type: Type.Literal('reset') },
    {
      title: 'ResetEvent',
      description: 'The event log no longer reaches back to `since`: reload the list of messages.'
    }
  )
}

export const Event = Type.Union(Object.values(events), {
  title: 'Event',
  description: 'The `data` of one event of the stream.'
})

/** Format: https://html.spec.whatwg.org/multipage/server-sent-events.html. */
export const EventStream = {
  description:
    'Unnamed server-sent events. The `id` of each is a cursor, and its `data` is one `Event` as JSON. ' +
    'If the service cannot take another stream, the response ends immediately, with a `retry` hint.',
  content: {
    'text/event-stream': {
      schema: Type.String({ contentMediaType: 'text/event-stream', contentSchema: Event }),
      example: 'retry: 2000\n: connected\nid: 41\ndata: {"type":"message_deleted","id":17}\n\n'
    }
  }
}

export const EventsQuery = Type.Object(
  {
    since: Type.Optional(
      Type.Integer({
        description: '`X-Event-Cursor` of a list, or the id of the last event you saw.',
        errorMessages: { type: { code: 'since_invalid', message: 'since must be an integer' } }
      })
    )
  },
  { title: 'EventsQuery', decimalIntegers: true }
)

/** Browsers send it when they reconnect. Anything but a cursor counts as a cursor that is too old. */
export const EventsHeaders = Type.Object(
  {
    'last-event-id': Type.Optional(
      Type.String({ description: 'The id of the last event you saw. Takes precedence over `since`.' })
    )
  },
  { title: 'EventsHeaders' }
)
