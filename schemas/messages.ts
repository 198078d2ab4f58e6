import { type Static, Type } from '@sinclair/typebox'

// `normalize` and `sentences` are keywords of src/plugins/input.ts.

const hello = { id: 17, userId: 1, nickname: 'alice', text: 'hello', createdAt: '2026-01-31T12:00:00.000Z' }

export const Message = Type.Object({
  id: Type.Integer(), userId: Type.Integer(), nickname: Type.String(), text: Type.String(), createdAt: Type.String({ format: 'date-time' })
}, { title: 'Message', description: 'A message of the room.', examples: [hello] })
export type Message = Static<typeof Message>

/** Sent as the bytes that its serialiser made once, for whoever asks. */
export const MessageList = Type.Unsafe<Buffer | string>(Type.Array(Message, {
  title: 'MessageList', description: 'Ascending by id.', examples: [[hello]],
  headers: {
    'X-Event-Cursor': Type.Integer({ description: '`since` for the events that follow on this list.' }),
    Age: Type.Integer({ description: 'The database is away, and this is what was known so many seconds ago.' })
  }
}))

export const CreateMessage = Type.Object({
  text: Type.String({
    normalize: 'trim', minLength: 1, maxLength: 2000, description: 'Stored without white space around it; its length counts then.', pattern: '^[^\\u0000]*$',
    sentences: { required: 'message text must be provided', maxLength: 'message is too long', pattern: 'message text must not contain NUL' }
  })
}, { title: 'CreateMessage', examples: [{ text: 'hello' }] })

export const EditMessage = CreateMessage

export const PostedMessage = {
  ...Message, headers: { 'Idempotency-Replayed': Type.Literal('true', { description: 'This message is the one that an earlier request with the same key made.' }) }
}

export const PostHeaders = Type.Object({
  'idempotency-key': Type.Optional(Type.String({
    description: 'The same key and text give the same message again, for as long as it lives.', pattern: '^[\\x21-\\x7e]{1,64}$',
    sentences: { pattern: 'Idempotency-Key must be 1 to 64 visible ASCII characters', required: 'Idempotency-Key must be 1 to 64 visible ASCII characters' }
  }))
}, { title: 'PostHeaders' })

export const MessageId = Type.Object({ id: Type.Integer() }, { title: 'MessageId' })

export const DeletedMessage = Type.Object({ id: Type.Integer(), status: Type.Literal('deleted') }, { title: 'DeletedMessage', description: 'The message is gone.', examples: [{ id: 17, status: 'deleted' }] })

export const MAX_PAGE = 200
export const PageOfMessages = Type.Object({
  limit: Type.Integer({
    minimum: 1, default: 50, description: `Above ${MAX_PAGE} counts as ${MAX_PAGE}.`, sentences: { minimum: 'limit must be at least 1' }
  }),
  after_id: Type.Optional(Type.Integer({ description: 'The oldest messages after this id.' })),
  before_id: Type.Optional(Type.Integer({ description: 'The newest messages before this id.' })),
  wait: Type.Optional(Type.Integer({
    minimum: 0, maximum: 25, description: 'Seconds to wait for the first message after after_id, if there is none yet.',
    sentences: { minimum: 'wait must be from 0 to 25 seconds', maximum: 'wait must be from 0 to 25 seconds' }
  }))
}, {
  title: 'PageOfMessages', not: { required: ['after_id', 'before_id'] }, dependencies: { wait: ['after_id'] },
  sentences: { not: 'after_id and before_id cannot be combined', dependencies: 'wait needs after_id' }
})
export type PageOfMessages = Static<typeof PageOfMessages>
