import { Type } from '@sinclair/typebox'
import { Message } from './messages.ts'

/** What happened in the room, one schema for each `kind` of the log in the database. */
export const events = {
  message_created: Type.Object(
    { type: Type.Literal('message_created'), message: Message },
    { title: 'MessageCreated' }
  ),
  message_updated: Type.Object(
    { type: Type.Literal('message_updated'), message: Message },
    { title: 'MessageUpdated' }
  ),
  message_deleted: Type.Object(
    { type: Type.Literal('message_deleted'), id: Type.Integer() },
    { title: 'MessageDeleted' }
  ),
  reset: Type.Object(
    { type: Type.Literal('reset') },
    { title: 'Reset', description: 'The log does not reach back to `since`: load the list again.' }
  )
}

export const Event = Type.Union(Object.values(events), {
  title: 'Event',
  description: 'The data of one event of the stream.'
})

/**
 * The whole stream is a text, whose form is that of
 * https://html.spec.whatwg.org/multipage/server-sent-events.html.
 */
export const EventStream = {
  description:
    'Server-sent events without a name, whose `id` is a cursor and whose `data` is one `Event` as JSON. ' +
    'Where there is no room for a stream, it ends at once.',
  content: {
    'text/event-stream': {
      schema: Type.String(),
      example: 'retry: 2000\n: connected\nid: 41\ndata: {"type":"message_deleted","id":17}\n\n'
    }
  }
}

export const EventsQuery = Type.Object(
  {
    since: Type.Optional(
      Type.Integer({
        description: 'X-Event-Cursor of a list, or the id of the last event that was seen.',
        errorMessages: { type: { code: 'since_invalid', message: 'since must be an integer' } }
      })
    )
  },
  { title: 'EventsQuery' }
)

/** A browser sends it when it connects again; a value that is no cursor counts as one that is too old. */
export const EventsHeaders = Type.Object(
  {
    'last-event-id': Type.Optional(
      Type.String({ description: 'The id of the last event that was seen; it counts before `since`.' })
    )
  },
  { title: 'EventsHeaders' }
)
