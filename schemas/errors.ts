import { type Static, Type } from '@sinclair/typebox'

/** Every answer that is no success. */
export const ErrorAnswer = Type.Object(
  {
    error: Type.String({ description: 'One English sentence for a person.' }),
    code: Type.String({ description: 'The same for a program, in snake_case.' }),
    requestId: Type.String({ description: 'As in the header X-Request-Id, and in the log of the service.' })
  },
  { title: 'Error' }
)
export type ErrorAnswer = Static<typeof ErrorAnswer>

/**
 * What a client is told about a value that a schema refuses. The keyword `errorMessages` of a schema has one
 * for each of its other keywords that can refuse a value; `required` stands for `null` and the empty string
 * as well.
 */
export interface ValidationMessage {
  code: string
  message: string
}

/** For a body that is not a JSON object. The sentence is the Go service's. */
export const bodyInvalid: ValidationMessage = { code: 'body_invalid', message: 'invalid JSON payload' }

export const NoContent = Type.Null({ description: 'Done.' })
