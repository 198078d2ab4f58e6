import { type Static, Type } from '@sinclair/typebox'
import { bodyInvalid } from './errors.ts'

// `normalize` and `errorMessages` are keywords of src/plugins/validation.ts.

/** In code points. */
const MAX_TOPIC = 200
/** In seconds. */
const MAX_SLOW_MODE = 21_600

const quietRoom = { topic: 'Welcome!', slowModeSeconds: 0, readOnly: false, online: 42 }

export const Room = Type.Object(
  {
    topic: Type.String({ description: 'Empty if there is none.' }),
    slowModeSeconds: Type.Integer({
      description: 'Seconds that a member must wait between posts. 0 turns slow mode off.'
    }),
    readOnly: Type.Boolean({ description: 'Only moderators may post and edit.' }),
    online: Type.Integer({ description: 'Approximate number of open event streams of all replicas.' })
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
        description: 'Trimmed before its length is checked.',
        errorMessages: {
          type: topicInvalid,
          maxLength: { code: 'topic_too_long', message: `topic must have at most ${MAX_TOPIC} characters` },
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
    description: 'Settings that are left out stay as they are.',
    examples: [{ slowModeSeconds: 30 }],
    errorMessages: { type: bodyInvalid }
  }
)
export type UpdateRoom = Static<typeof UpdateRoom>
