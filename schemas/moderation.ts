import { type Static, Type } from '@sinclair/typebox'
import { bodyInvalid } from './errors.ts'
import { beforeIdInvalid, Message, PageLimit } from './messages.ts'

// `normalize`, `decimalIntegers` and `errorMessages` are keywords of src/plugins/validation.ts.

/** In code points. */
const MAX_REASON = 500

const roles = ['member', 'moderator', 'admin'] as const
export type Role = (typeof roles)[number]
/** Moderators act on members, admins on everybody. */
export const Role = (errorMessages = {}) =>
  Type.Unsafe<Role>(
    Type.String({
      enum: roles,
      description: 'Moderators act on members, admins act on everybody and give roles.',
      errorMessages
    })
  )

const kinds = ['mute', 'ban'] as const
export type RestrictionKind = (typeof kinds)[number]
export const Kind = (errorMessages = {}) =>
  Type.Unsafe<RestrictionKind>(
    Type.String({
      enum: kinds,
      description: 'A muted user cannot post or edit. A banned one cannot log in either.',
      errorMessages
    })
  )

const Time = (description: string) => Type.String({ format: 'date-time', description })

const reasonInvalid = { code: 'reason_invalid', message: 'reason must be a string without NUL' }
const reasonTooLong = {
  code: 'reason_too_long',
  message: `reason must have at most ${MAX_REASON} characters`
}

const Person = Type.Object(
  {
    userId: Type.Integer(),
    nickname: Type.Optional(Type.String({ description: 'Missing if the account has been deleted.' }))
  },
  { title: 'Person' }
)

const untilInvalid = {
  code: 'until_invalid',
  message: 'until must be an RFC 3339 time, such as 2026-01-31T12:00:00Z'
}

export const CreateRestriction = Type.Object(
  {
    kind: Kind({
      required: { code: 'kind_missing', message: 'kind must be provided' },
      type: { code: 'kind_invalid', message: 'kind must be mute or ban' },
      enum: { code: 'kind_invalid', message: 'kind must be mute or ban' }
    }),
    until: Type.Optional(
      Type.Unsafe<string | null>({
        type: ['string', 'null'],
        format: 'date-time',
        description: 'Without it, the restriction does not end by itself.',
        errorMessages: { type: untilInvalid, format: untilInvalid }
      })
    ),
    reason: Type.Optional(
      Type.Unsafe<string | null>({
        type: ['string', 'null'],
        normalize: 'text',
        maxLength: MAX_REASON,
        pattern: '^[^\\u0000]*$',
        description: 'Moderators and the user can see it.',
        errorMessages: { type: reasonInvalid, maxLength: reasonTooLong, pattern: reasonInvalid }
      })
    )
  },
  {
    title: 'CreateRestriction',
    examples: [{ kind: 'mute', until: '2026-01-31T12:00:00Z', reason: 'spam' }],
    errorMessages: { type: bodyInvalid }
  }
)

const mutedMallory = {
  id: 3,
  userId: 17,
  nickname: 'mallory',
  kind: 'mute',
  until: '2026-01-31T12:00:00.000Z',
  reason: 'spam',
  createdAt: '2026-01-31T11:00:00.000Z',
  moderator: { userId: 1, nickname: 'alice' }
}

export const Restriction = Type.Object(
  {
    id: Type.Integer(),
    userId: Type.Integer(),
    nickname: Type.String(),
    kind: Kind(),
    until: Type.Optional(Time('Missing if the restriction does not end by itself.')),
    reason: Type.Optional(Type.String()),
    createdAt: Time('When it was set.'),
    moderator: Type.Optional(Person)
  },
  {
    title: 'Restriction',
    description:
      'A restriction that is in force. Without `moderator`, the operator of the service has set it.',
    examples: [mutedMallory]
  }
)
export type Restriction = Static<typeof Restriction>
export const RestrictionList = Type.Array(Restriction, {
  title: 'RestrictionList',
  description: 'Newest first.',
  examples: [[mutedMallory]]
})

export const SetRole = Type.Object(
  {
    role: Role({
      required: { code: 'role_missing', message: 'role must be provided' },
      type: { code: 'role_invalid', message: 'role must be member, moderator or admin' },
      enum: { code: 'role_invalid', message: 'role must be member, moderator or admin' }
    })
  },
  { title: 'SetRole', examples: [{ role: 'moderator' }], errorMessages: { type: bodyInvalid } }
)

export const UserRole = Type.Object(
  { userId: Type.Integer(), nickname: Type.String(), role: Role() },
  {
    title: 'UserRole',
    description: 'A user and their current role.',
    examples: [{ userId: 17, nickname: 'bob', role: 'moderator' }]
  }
)
export type UserRole = Static<typeof UserRole>

export const DeletedMessages = Type.Object(
  { deleted: Type.Integer({ description: 'How many messages were deleted.' }) },
  { title: 'DeletedMessages', description: 'The messages were deleted.', examples: [{ deleted: 12 }] }
)

const loggedMute = {
  id: 9,
  createdAt: '2026-01-31T11:00:00.000Z',
  action: 'mute',
  moderator: { userId: 1, nickname: 'alice' },
  user: { userId: 17, nickname: 'mallory' },
  reason: 'spam',
  details: { until: '2026-01-31T12:00:00.000Z' }
}

export const ModerationEntry = Type.Object(
  {
    id: Type.Integer(),
    createdAt: Time('When it was done.'),
    action: Type.String({
      description:
        'mute, ban, lift_restriction, delete_message, delete_messages, set_role, update_room or ' +
        'close_report; also reset_password and end_sessions, by the operator. More may be added.'
    }),
    moderator: Type.Optional(Person),
    user: Type.Optional(Person),
    messageId: Type.Optional(Type.Integer()),
    reason: Type.Optional(Type.String()),
    details: Type.Optional(
      Type.Object(
        {},
        { additionalProperties: true, description: 'Further details, which depend on the action.' }
      )
    )
  },
  {
    title: 'ModerationEntry',
    description: 'Who did what to whom, and why. Without `moderator`, it was the operator of the service.',
    examples: [loggedMute]
  }
)
export type ModerationEntry = Static<typeof ModerationEntry>
export const ModerationLog = Type.Array(ModerationEntry, {
  title: 'ModerationLog',
  description: 'Newest first.',
  examples: [[loggedMute]]
})

export const CreateReport = Type.Object(
  {
    reason: Type.String({
      normalize: 'text',
      minLength: 1,
      maxLength: MAX_REASON,
      pattern: '^[^\\u0000]*$',
      errorMessages: {
        required: { code: 'reason_missing', message: 'reason must be provided' },
        type: reasonInvalid,
        maxLength: reasonTooLong,
        pattern: reasonInvalid
      }
    })
  },
  { title: 'CreateReport', examples: [{ reason: 'spam' }], errorMessages: { type: bodyInvalid } }
)

export const Report = Type.Object(
  {
    id: Type.Integer(),
    reason: Type.String(),
    createdAt: Time('When the message was reported.'),
    reporter: Person,
    message: Message
  },
  { title: 'Report', description: 'An open report of a message that has not been deleted.' }
)
export type Report = Static<typeof Report>
export const ReportList = Type.Array(Report, {
  title: 'ReportList',
  description: 'Newest first.',
  examples: [
    [
      {
        id: 5,
        reason: 'spam',
        createdAt: '2026-01-31T12:01:00.000Z',
        reporter: { userId: 1, nickname: 'alice' },
        message: {
          id: 17,
          userId: 17,
          nickname: 'mallory',
          text: 'buy!',
          createdAt: '2026-01-31T12:00:00.000Z'
        }
      }
    ]
  ]
})

/** Query of the lists for moderators. */
export const PageQuery = Type.Object(
  {
    limit: PageLimit,
    before_id: Type.Optional(
      Type.Integer({
        description: 'Return the newest entries before this id.',
        errorMessages: { type: beforeIdInvalid }
      })
    )
  },
  { title: 'PageQuery', decimalIntegers: true }
)
export type PageQuery = Static<typeof PageQuery>
