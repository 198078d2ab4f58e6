import { type Static, Type } from '@sinclair/typebox'

/** Every answer that is no success: `error` is one English sentence for a person, `code` in snake_case is for a program. */
export const ErrorAnswer = Type.Object({ error: Type.String(), code: Type.String(), requestId: Type.String() }, { title: 'Error' })
export type ErrorAnswer = Static<typeof ErrorAnswer>

/** The error answers of any route, by class of status. */
export const errorAnswers = { '4xx': ErrorAnswer, '5xx': ErrorAnswer }

export const NoContent = Type.Null({ description: 'No content.' })
