import { Type } from '@sinclair/typebox'
import { Message } from './messages.ts'

/** What happened in the room, one schema for each `kind` of the log in the database. */
export const events = {
  message_created: Type.Object({ type: Type.Literal('message_created'), message: Message }, { title: 'MessageCreated' }),
  message_updated: Type.Object({ type: Type.Literal('message_updated'), message: Message }, { title: 'MessageUpdated' }),
  message_deleted: Type.Object({ type: Type.Literal('message_deleted'), id: Type.Integer() }, { title: 'MessageDeleted' }),
  reset: Type.Object({ type: Type.Literal('reset') }, { title: 'Reset', description: 'The log does not reach back to `since`: load the list again.' })
}

/** The data of one line of the stream. */
export const Event = Type.Union(Object.values(events), { title: 'Event' })

export const EventsQuery = Type.Object({
  since: Type.Optional(Type.Integer({ description: 'X-Event-Cursor of a list, or the id of the last event that was seen.' }))
}, { title: 'EventsQuery' })

/** A browser sends it when it connects again; a value that is no cursor counts as one that is too old. */
export const EventsHeaders = Type.Object({
  'last-event-id': Type.Optional(Type.String({ description: 'The id of the last event that was seen; it counts before `since`.' }))
}, { title: 'EventsHeaders' })
