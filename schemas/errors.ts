import { type Static, Type } from '@sinclair/typebox'

/** The body of every response with a status of 400 or more. */
export const ErrorResponse = Type.Object(
  {
    error: Type.String({ description: 'One English sentence, to show to a person.' }),
    code: Type.String({ description: 'A stable code for programs, in snake_case.' }),
    requestId: Type.String({
      description: 'Also in the `X-Request-Id` header and in the log of the service.'
    })
  },
  { title: 'ErrorResponse' }
)
export type ErrorResponse = Static<typeof ErrorResponse>

/**
 * The error for a value that a schema rejects. The keyword `errorMessages` of a schema has one for each of
 * its other keywords that can reject a value; `required` also covers `null` and the empty string.
 */
export interface ValidationMessage {
  code: string
  message: string
}

/** For a body that is not a JSON object. The sentence is the Go service's. */
export const bodyInvalid: ValidationMessage = { code: 'body_invalid', message: 'invalid JSON payload' }

export const NoContent = Type.Null({ description: 'Done.' })
