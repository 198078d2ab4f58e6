import { type Static, Type } from '@sinclair/typebox'
import { bodyInvalid, type ValidationMessage } from './errors.ts'
import { Kind, Role } from './moderation.ts'

// `normalize`, `legible`, `maxBytes`, `uncommon` and `errorMessages` are custom keywords: see
// src/plugins/validation.ts.

// The sentence is the Go service's, whichever of the two is missing.
const nicknameMissing = { code: 'nickname_missing', message: 'nickname and password must be provided' }
const passwordMissing = { code: 'password_missing', message: 'nickname and password must be provided' }
const passwordInvalid = { code: 'password_invalid', message: 'password must be a string' }
const nicknameInvalid = {
  code: 'nickname_invalid',
  message: 'nickname must be a string without invisible or unassigned characters or stacked marks'
}

/** Code points at most. */
export const MAX_NICKNAME = 64

const alice = { nickname: 'alice', password: 'correct horse' }
const aliceHere = {
  token: '5d9c1f0e7a31b2846f0dce4417a9b35c2e8806d1f4b97a03c65e1d2f8b40a97e',
  userId: 1,
  nickname: 'alice'
}
const Token = Type.String({ description: 'Session token: 32 random bytes in hex, valid for 24 hours.' })

/**
 * A password of more than 72 bytes is refused, because bcrypt would truncate it.
 * @param minLength in code points
 */
const NewPassword = (minLength: number, required: ValidationMessage, type: ValidationMessage) =>
  Type.String({
    minLength,
    maxBytes: 72,
    uncommon: true,
    description: 'At most 72 bytes, and not a common password.',
    errorMessages: {
      required,
      type,
      minLength: {
        code: 'password_too_short',
        message: `password must have at least ${minLength} characters`
      },
      maxBytes: { code: 'password_too_long', message: 'password must have at most 72 bytes' },
      uncommon: { code: 'password_too_common', message: 'password is too common, choose another one' }
    }
  })

/** A registration. @param passwordMinLength in code points */
export const RegisterRequest = (passwordMinLength: number) =>
  Type.Object(
    {
      nickname: Type.String({
        normalize: 'nickname',
        minLength: 1,
        maxLength: MAX_NICKNAME,
        legible: true,
        description:
          'Trimmed and normalised to NFC before its length is checked. No invisible, private-use or ' +
          'unassigned characters, no mark without a base, and at most 4 marks in a row. ' +
          'Must not look like an existing nickname.',
        errorMessages: {
          required: nicknameMissing,
          type: nicknameInvalid,
          maxLength: { code: 'nickname_too_long', message: 'nickname is too long' },
          legible: nicknameInvalid
        }
      }),
      password: NewPassword(passwordMinLength, passwordMissing, passwordInvalid)
    },
    { title: 'RegisterRequest', examples: [alice], errorMessages: { type: bodyInvalid } }
  )

const CurrentPassword = Type.String({
  minLength: 1,
  errorMessages: {
    required: { code: 'current_password_missing', message: 'current password must be provided' },
    type: { code: 'current_password_invalid', message: 'current password must be a string' }
  }
})

export const DeleteAccountRequest = Type.Object(
  { password: CurrentPassword },
  {
    title: 'DeleteAccountRequest',
    examples: [{ password: alice.password }],
    errorMessages: { type: bodyInvalid }
  }
)

/** @param passwordMinLength in code points */
export const ChangePasswordRequest = (passwordMinLength: number) =>
  Type.Object(
    {
      currentPassword: CurrentPassword,
      newPassword: NewPassword(
        passwordMinLength,
        { code: 'new_password_missing', message: 'new password must be provided' },
        { code: 'new_password_invalid', message: 'new password must be a string' }
      )
    },
    {
      title: 'ChangePasswordRequest',
      examples: [{ currentPassword: alice.password, newPassword: 'battery staple' }],
      errorMessages: { type: bodyInvalid }
    }
  )

export const Account = Type.Object(
  {
    id: Type.Integer(),
    userId: Type.Integer({ description: 'Same as `id`.' }),
    nickname: Type.String(),
    token: Token
  },
  { title: 'Account', description: 'The new account, logged in.', examples: [{ id: 1, ...aliceHere }] }
)

/** Checks only presence: accounts created under other rules must still be able to log in. */
export const LoginRequest = Type.Object(
  {
    nickname: Type.String({
      minLength: 1,
      errorMessages: { required: nicknameMissing, type: nicknameInvalid }
    }),
    password: Type.String({
      minLength: 1,
      errorMessages: { required: passwordMissing, type: passwordInvalid }
    })
  },
  { title: 'LoginRequest', examples: [alice], errorMessages: { type: bodyInvalid } }
)

export const LoginResponse = Type.Object(
  { token: Token, userId: Type.Integer(), nickname: Type.String() },
  { title: 'LoginResponse', description: 'A new session.', examples: [aliceHere] }
)

export const Me = Type.Object(
  {
    userId: Type.Integer(),
    nickname: Type.String(),
    role: Role(),
    createdAt: Type.String({ format: 'date-time' }),
    restriction: Type.Union(
      [
        Type.Object({
          kind: Kind(),
          until: Type.Union([Type.String({ format: 'date-time' }), Type.Null()], {
            description: 'Null if it does not end by itself.'
          }),
          reason: Type.Union([Type.String(), Type.Null()], { description: 'Null if none was given.' })
        }),
        Type.Null()
      ],
      { description: 'The restriction that is in force, or null.' }
    )
  },
  {
    title: 'Me',
    description: 'Your account.',
    examples: [
      {
        userId: 1,
        nickname: alice.nickname,
        role: 'member',
        createdAt: '2026-01-31T12:00:00.000Z',
        restriction: { kind: 'mute', until: '2026-02-01T12:00:00.000Z', reason: 'spam' }
      }
    ]
  }
)

export const Session = Type.Object(
  {
    id: Type.String({ description: 'Identifies the session. It reveals nothing about the token.' }),
    createdAt: Type.String({ format: 'date-time' }),
    lastSeenAt: Type.String({ format: 'date-time', description: 'Accurate to about a minute.' }),
    current: Type.Boolean({ description: 'Whether this is the session that made the request.' }),
    userAgent: Type.Union([Type.String(), Type.Null()], {
      description:
        'The first 200 characters of the User-Agent header of the login. Null if there was none, or if the ' +
        'session was started by the Go service.'
    })
  },
  { title: 'Session' }
)
export type Session = Static<typeof Session>

export const SessionList = Type.Array(Session, {
  title: 'SessionList',
  description: 'Most recently used first.',
  examples: [
    [
      {
        id: 'Yb0fXk3mJ2d9QvW7sLz1Pg',
        createdAt: '2026-01-31T12:00:00.000Z',
        lastSeenAt: '2026-01-31T12:30:00.000Z',
        current: true,
        userAgent: 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0'
      }
    ]
  ]
})
export const SessionId = Type.Object({ id: Type.String() }, { title: 'SessionId' })

/** Code points at most. */
const MAX_TOKEN_NAME = 64

const apiTokenName = {
  missing: { code: 'token_name_missing', message: 'token name must be provided' },
  invalid: {
    code: 'token_name_invalid',
    message: 'token name must be a string without control characters'
  },
  tooLong: {
    code: 'token_name_too_long',
    message: `token name must have at most ${MAX_TOKEN_NAME} characters`
  }
}
const buildBot = { id: 3, name: 'build bot' }

export const CreateApiTokenRequest = Type.Object(
  {
    name: Type.String({
      normalize: 'text',
      minLength: 1,
      maxLength: MAX_TOKEN_NAME,
      pattern: '^[^\\u0000-\\u001f\\u007f-\\u009f]*$',
      visible: true,
      description: 'What the token is for. Trimmed before its length is checked.',
      errorMessages: {
        required: apiTokenName.missing,
        type: apiTokenName.invalid,
        maxLength: apiTokenName.tooLong,
        pattern: apiTokenName.invalid,
        visible: apiTokenName.missing
      }
    })
  },
  {
    title: 'CreateApiTokenRequest',
    examples: [{ name: buildBot.name }],
    errorMessages: { type: bodyInvalid }
  }
)

export const CreateApiTokenResponse = Type.Object(
  {
    id: Type.Integer(),
    name: Type.String(),
    token: Type.String({ description: '`chat_` and 32 random bytes in hex. It is shown only here.' })
  },
  {
    title: 'CreateApiTokenResponse',
    description: 'An API token, which is valid until it is revoked.',
    examples: [{ ...buildBot, token: `chat_${aliceHere.token}` }]
  }
)

export const ApiToken = Type.Object(
  {
    id: Type.Integer(),
    name: Type.String(),
    createdAt: Type.String({ format: 'date-time' }),
    lastUsedAt: Type.Union([Type.String({ format: 'date-time' }), Type.Null()], {
      description: 'Accurate to about a minute. Null if the token was never used.'
    })
  },
  { title: 'ApiToken' }
)
export type ApiToken = Static<typeof ApiToken>

export const ApiTokenList = Type.Array(ApiToken, {
  title: 'ApiTokenList',
  description: 'Oldest first.',
  examples: [[{ ...buildBot, createdAt: '2026-01-31T12:00:00.000Z', lastUsedAt: '2026-01-31T12:30:00.000Z' }]]
})
