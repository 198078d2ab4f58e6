import { type Static, Type } from '@sinclair/typebox'

// `normalize`, `maxBytes`, `uncommon` and `sentences` are keywords of src/plugins/input.ts.

const noNickname = 'nickname must be provided'
const noPassword = 'password must be provided'

/** Code points at most. */
export const MAX_NICKNAME = 64

const alice = { nickname: 'alice', password: 'correct horse' }
const aliceHere = { token: '5d9c1f0e7a31b2846f0dce4417a9b35c2e8806d1f4b97a03c65e1d2f8b40a97e', userId: 1, nickname: 'alice' }
const Token = Type.String({ description: '32 random bytes in hex, valid for 24 hours.' })

/** A password that bcrypt would cut, after 72 bytes, is refused. @param minLength in code points */
const NewPassword = (minLength: number, required: string) => Type.String({
  minLength, maxBytes: 72, uncommon: true, description: 'At most 72 bytes, and none of those that everybody has.',
  sentences: {
    required, minLength: `password must have at least ${minLength} characters`, maxBytes: 'password is too long', uncommon: 'password is too common'
  }
})

/** A registration. @param passwordMinLength in code points */
export const CreateAccount = (passwordMinLength: number) => Type.Object({
  nickname: Type.String({
    normalize: 'nfc', minLength: 1, maxLength: MAX_NICKNAME, pattern: '^[^\\p{Cc}\\p{Cf}]*$',
    description: 'Stored in Unicode form NFC, without white space around it; its length counts then.',
    sentences: { required: noNickname, maxLength: 'nickname is too long', pattern: 'nickname must not contain control or format characters' }
  }),
  password: NewPassword(passwordMinLength, noPassword)
}, { title: 'CreateAccount', examples: [alice] })

/** @param passwordMinLength in code points */
export const ChangePassword = (passwordMinLength: number) => Type.Object({
  currentPassword: Type.String({ minLength: 1, sentences: { required: 'current password must be provided' } }),
  newPassword: NewPassword(passwordMinLength, 'new password must be provided')
}, { title: 'ChangePassword', examples: [{ currentPassword: alice.password, newPassword: 'battery staple' }] })

export const Account = Type.Object({
  id: Type.Integer(), userId: Type.Integer({ description: 'The same.' }), nickname: Type.String(), token: Token
}, { title: 'Account', description: 'The new account, with a session.', examples: [{ id: 1, ...aliceHere }] })

/** Only presence is checked: what was stored under other rules must still log in. */
export const Login = Type.Object({
  nickname: Type.String({ minLength: 1, sentences: { required: noNickname } }),
  password: Type.String({ minLength: 1, sentences: { required: noPassword } })
}, { title: 'Login', examples: [alice] })

export const Session = Type.Object({ token: Token, userId: Type.Integer(), nickname: Type.String() },
  { title: 'Session', description: 'A new session.', examples: [aliceHere] })

export const ActiveSession = Type.Object({
  id: Type.String({ description: 'Not the token, and of no use to find it.' }),
  createdAt: Type.String({ format: 'date-time' }),
  lastSeenAt: Type.String({ format: 'date-time', description: 'To about a minute.' }),
  current: Type.Boolean({ description: 'The session that asks.' })
}, { title: 'ActiveSession' })
export type ActiveSession = Static<typeof ActiveSession>

export const SessionList = Type.Array(ActiveSession, {
  title: 'SessionList', description: 'The one that was used last comes first.',
  examples: [[{ id: 'Yb0fXk3mJ2d9QvW7sLz1Pg', createdAt: '2026-01-31T12:00:00.000Z', lastSeenAt: '2026-01-31T12:30:00.000Z', current: true }]]
})
export const SessionId = Type.Object({ id: Type.String() }, { title: 'SessionId' })
