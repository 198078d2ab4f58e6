import { type Static, Type } from '@sinclair/typebox'

/** Every answer that is no success. */
export const ErrorAnswer = Type.Object({
  error: Type.String({ description: 'One English sentence for a person.' }),
  code: Type.String({ description: 'The same for a program, in snake_case.' }),
  requestId: Type.String({ description: 'As in the header X-Request-Id, and in the log of the service.' })
}, { title: 'Error' })
export type ErrorAnswer = Static<typeof ErrorAnswer>

export const NoContent = Type.Null({ description: 'Done.' })
