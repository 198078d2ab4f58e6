import { type Static, Type } from '@sinclair/typebox'

// `normalize` and `sentences` are keywords of src/plugins/input.ts.

export const Message = Type.Object({
  id: Type.Integer(), userId: Type.Integer(), nickname: Type.String(), text: Type.String(), createdAt: Type.String({ format: 'date-time' })
}, { title: 'Message' })
export type Message = Static<typeof Message>

export const MessageList = Type.Array(Message, { title: 'MessageList', description: 'Ascending by id.' })

export const CreateMessage = Type.Object({
  text: Type.String({
    normalize: 'trim', minLength: 1, maxLength: 2000, pattern: '^[^\\u0000]*$',
    sentences: { required: 'message text must be provided', maxLength: 'message is too long', pattern: 'message text must not contain NUL' }
  })
}, { title: 'CreateMessage' })

export const MAX_PAGE = 200
export const PageOfMessages = Type.Object({
  limit: Type.Integer({
    minimum: 1, default: 50, description: `Above ${MAX_PAGE} counts as ${MAX_PAGE}.`, sentences: { minimum: 'limit must be at least 1' }
  }),
  after_id: Type.Optional(Type.Integer({ description: 'The oldest messages after this id.' })),
  before_id: Type.Optional(Type.Integer({ description: 'The newest messages before this id.' }))
}, {
  title: 'PageOfMessages', not: { required: ['after_id', 'before_id'] }, sentences: { not: 'after_id and before_id cannot be combined' }
})
export type PageOfMessages = Static<typeof PageOfMessages>
