import { Type } from '@sinclair/typebox'

export const Health = Type.Object(
  { status: Type.Literal('ok') },
  { title: 'Health', description: 'It is.', examples: [{ status: 'ok' }] }
)
