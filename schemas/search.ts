import { type Static, Type } from '@sinclair/typebox'
import { beforeIdInvalid, Message, PageLimit } from './messages.ts'

// `normalize`, `decimalIntegers` and `errorMessages` are keywords of src/plugins/validation.ts.

const found = { id: 17, userId: 1, nickname: 'alice', text: 'hello', createdAt: '2026-01-31T12:00:00.000Z' }

const qMissing = { code: 'q_missing', message: 'q must be provided' }

export const SearchQuery = Type.Object(
  {
    q: Type.String({
      normalize: 'text',
      minLength: 2,
      maxLength: 100,
      description:
        'Words and quoted phrases, all of which must be in the message. The last word may be the beginning ' +
        'of a longer one.',
      examples: ['hello'],
      errorMessages: {
        required: qMissing,
        type: qMissing,
        minLength: { code: 'q_too_short', message: 'q must have at least 2 characters' },
        maxLength: { code: 'q_too_long', message: 'q must have at most 100 characters' }
      }
    }),
    limit: PageLimit,
    before_id: Type.Optional(
      Type.Integer({
        description: 'Return the newest matches before this id.',
        errorMessages: { type: beforeIdInvalid }
      })
    )
  },
  { title: 'SearchQuery', decimalIntegers: true }
)
export type SearchQuery = Static<typeof SearchQuery>

export const SearchResult = Type.Array(Message, {
  title: 'SearchResult',
  description: 'The newest messages that match, ascending by id.',
  examples: [[found]],
  headers: {
    'X-Event-Cursor': Type.Integer({ description: '`since` for the events that follow this list.' }),
    'X-Search-Next': Type.Integer({
      description:
        'The search stopped early, after 250 ms or 4 MiB of text. Continue with this id as `before_id`.'
    }),
    'X-Search-Incomplete': Type.Literal('true', {
      description: 'Not all messages are indexed yet: some may be missing.'
    })
  }
})
