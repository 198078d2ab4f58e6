import { type Static, Type } from '@sinclair/typebox'
import { bodyInvalid } from './errors.ts'

// `normalize`, `visible`, `decimalIntegers` and `errorMessages` are keywords of src/plugins/validation.ts.

const hello = { id: 17, userId: 1, nickname: 'alice', text: 'hello', createdAt: '2026-01-31T12:00:00.000Z' }

/** How many code points of a message its replies show at most, including the ellipsis. */
export const MAX_EXCERPT = 100

/** One object with optional properties, because a union would be validated each time it is serialised. */
const RepliedMessage = Type.Object(
  {
    id: Type.Integer(),
    userId: Type.Optional(Type.Integer()),
    nickname: Type.Optional(Type.String()),
    text: Type.Optional(
      Type.String({ description: `The beginning of its text, at most ${MAX_EXCERPT} characters.` })
    ),
    deleted: Type.Optional(
      Type.Literal(true, { description: 'The message was deleted; only its id is known.' })
    )
  },
  {
    title: 'RepliedMessage',
    description:
      'The message that this one replies to: its author and the beginning of its text as they are now, or ' +
      '`deleted`. When that message changes, its own event is sent, but none for its replies.',
    examples: [
      { id: 16, userId: 2, nickname: 'bob', text: 'anybody here?' },
      { id: 16, deleted: true }
    ]
  }
)
export type RepliedMessage = Static<typeof RepliedMessage>

export const Message = Type.Object(
  {
    id: Type.Integer(),
    userId: Type.Integer(),
    nickname: Type.String(),
    text: Type.String(),
    createdAt: Type.String({ format: 'date-time' }),
    editedAt: Type.Optional(
      Type.String({ format: 'date-time', description: 'When the message was last edited, if it was.' })
    ),
    replyTo: Type.Optional(RepliedMessage)
  },
  { title: 'Message', description: 'A message.', examples: [hello] }
)
export type Message = Static<typeof Message>

const staleHeaders = {
  'X-Stale': Type.Literal('true', {
    description: 'Present only while the database cannot be reached: this is the last known state.'
  }),
  Age: Type.Integer({
    description:
      'With `X-Stale`, how many seconds old that state is. Without it, how long a cache in between has ' +
      'kept the response.'
  })
}

/** Serialised once, and sent as bytes to everyone who asks. */
export const MessageList = Type.Unsafe<Buffer | string>(
  Type.Array(Message, {
    title: 'MessageList',
    description: 'Messages, ascending by id.',
    examples: [[hello]],
    headers: {
      'X-Event-Cursor': Type.Integer({ description: '`since` for the events that follow this list.' }),
      ...staleHeaders
    }
  })
)

/** One message, sent like a list of them. */
export const MessageFound = Type.Unsafe<Buffer | string>({
  ...Message,
  headers: staleHeaders
})

const textMissing = { code: 'text_missing', message: 'message text must be provided' }
const textInvalid = { code: 'text_invalid', message: 'message text must be a string without NUL' }

const replyToInvalid = { code: 'reply_to_invalid', message: 'replyTo must be the id of a message' }

const Text = Type.String({
  normalize: 'text',
  minLength: 1,
  maxLength: 2000,
  pattern: '^[^\\u0000]*$',
  visible: true,
  description: 'Trimmed before its length is checked. At least one character must be visible.',
  errorMessages: {
    required: textMissing,
    type: textInvalid,
    maxLength: { code: 'text_too_long', message: 'message is too long' },
    pattern: textInvalid,
    visible: textMissing
  }
})

export const PostMessageRequest = Type.Object(
  {
    text: Text,
    replyTo: Type.Optional(
      Type.Unsafe<number | null>({
        type: ['integer', 'null'],
        minimum: -Number.MAX_SAFE_INTEGER,
        maximum: Number.MAX_SAFE_INTEGER,
        description: 'The id of the message that this one replies to.',
        errorMessages: { type: replyToInvalid, minimum: replyToInvalid, maximum: replyToInvalid }
      })
    )
  },
  {
    title: 'PostMessageRequest',
    examples: [{ text: 'hello' }, { text: 'yes', replyTo: 16 }],
    errorMessages: { type: bodyInvalid }
  }
)

export const EditMessageRequest = Type.Object(
  { text: Text },
  { title: 'EditMessageRequest', examples: [{ text: 'hello' }], errorMessages: { type: bodyInvalid } }
)

export const PostedMessage = {
  ...Message,
  headers: {
    'Idempotency-Replayed': Type.Literal('true', {
      description: 'The message was created by an earlier request with the same key.'
    })
  }
}

export const PostHeaders = Type.Object(
  {
    'idempotency-key': Type.Optional(
      Type.String({
        pattern: '^[\\x21-\\x7e]{1,64}$',
        description:
          'Makes retries safe: the same key, text and replyTo return the same message, for as long as ' +
          'it exists.',
        errorMessages: {
          pattern: {
            code: 'idempotency_key_invalid',
            message: 'Idempotency-Key must be 1 to 64 visible ASCII characters'
          }
        }
      })
    )
  },
  { title: 'PostHeaders' }
)

export const DeletedMessage = Type.Object(
  { id: Type.Integer(), status: Type.Literal('deleted') },
  {
    title: 'DeletedMessage',
    description: 'The message was deleted.',
    examples: [{ id: 17, status: 'deleted' }]
  }
)

const limitInvalid = { code: 'limit_invalid', message: 'limit must be a positive integer' }
export const beforeIdInvalid = { code: 'before_id_invalid', message: 'before_id must be an integer' }
const waitInvalid = { code: 'wait_invalid', message: 'wait must be an integer from 0 to 25' }

export const MAX_PAGE = 200
/** How long a page may be. */
export const PageLimit = Type.Integer({
  minimum: 1,
  default: 50,
  description: `At most ${MAX_PAGE}; larger values count as ${MAX_PAGE}.`,
  errorMessages: { type: limitInvalid, minimum: limitInvalid }
})

export const ListMessagesQuery = Type.Object(
  {
    limit: PageLimit,
    after_id: Type.Optional(
      Type.Integer({
        description: 'Return the oldest messages after this id.',
        errorMessages: { type: { code: 'after_id_invalid', message: 'after_id must be an integer' } }
      })
    ),
    before_id: Type.Optional(
      Type.Integer({
        description: 'Return the newest messages before this id.',
        errorMessages: { type: beforeIdInvalid }
      })
    ),
    wait: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: 25,
        description:
          'Long poll: seconds to wait for the first message after `after_id`, if there is none yet.',
        errorMessages: { type: waitInvalid, minimum: waitInvalid, maximum: waitInvalid }
      })
    )
  },
  {
    title: 'ListMessagesQuery',
    decimalIntegers: true,
    not: { required: ['after_id', 'before_id'] },
    dependencies: { wait: ['after_id'] },
    errorMessages: {
      not: { code: 'cursors_combined', message: 'after_id and before_id cannot be combined' },
      dependencies: { code: 'wait_without_after_id', message: 'wait requires after_id' }
    }
  }
)
export type ListMessagesQuery = Static<typeof ListMessagesQuery>
