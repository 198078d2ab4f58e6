import { type Static, Type } from '@sinclair/typebox'
import { bodyInvalid } from './errors.ts'

// `normalize` and `errorMessages` are keywords of src/plugins/validation.ts.

/** In code points. */
export const MAX_TOPIC = 200
/** In seconds. */
export const MAX_SLOW_MODE = 21_600

const quietRoom = { topic: 'Welcome!', slowModeSeconds: 0, readOnly: false, online: 42 }

export const Room = Type.Object(
  {
    topic: Type.String({ description: 'Empty where there is none.' }),
    slowModeSeconds: Type.Integer({
      description: 'How often a member may post; 0 is as often as they like.'
    }),
    readOnly: Type.Boolean({ description: 'Only moderators may post and edit.' }),
    online: Type.Integer({ description: 'Open event streams of all replicas, approximately.' })
  },
  { title: 'Room', description: 'The settings of the room.', examples: [quietRoom] }
)
export type Room = Static<typeof Room>

const topicInvalid = { code: 'topic_invalid', message: 'topic must be a string without NUL' }
const slowModeInvalid = {
  code: 'slow_mode_seconds_invalid',
  message: `slowModeSeconds must be an integer from 0 to ${MAX_SLOW_MODE}`
}

export const UpdateRoom = Type.Object(
  {
    topic: Type.Optional(
      Type.String({
        normalize: 'text',
        maxLength: MAX_TOPIC,
        pattern: '^[^\\u0000]*$',
        description: 'Stored without white space around it; its length counts then.',
        errorMessages: {
          type: topicInvalid,
          maxLength: { code: 'topic_too_long', message: 'topic is too long' },
          pattern: topicInvalid
        }
      })
    ),
    slowModeSeconds: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: MAX_SLOW_MODE,
        errorMessages: { type: slowModeInvalid, minimum: slowModeInvalid, maximum: slowModeInvalid }
      })
    ),
    readOnly: Type.Optional(
      Type.Boolean({
        errorMessages: { type: { code: 'read_only_invalid', message: 'readOnly must be true or false' } }
      })
    )
  },
  {
    title: 'UpdateRoom',
    description: 'What is left out stays as it is.',
    examples: [{ slowModeSeconds: 30 }],
    errorMessages: { type: bodyInvalid }
  }
)
export type UpdateRoom = Static<typeof UpdateRoom>
