import { type Static, Type } from '@sinclair/typebox'

export const Health = Type.Object(
  { status: Type.Literal('ok') },
  { title: 'HealthStatus', description: 'The check has passed.', examples: [{ status: 'ok' }] }
)

const forInvalid = { code: 'for_invalid', message: "for must be 'reads' or be left out" }

/** Which kind of readiness to check. */
export const Readiness = Type.Object(
  {
    for: Type.Optional(
      Type.Literal('reads', {
        description:
          'Checks only whether this replica can serve the newest page, even a stale one. For load balancers.',
        errorMessages: { const: forInvalid, type: forInvalid }
      })
    )
  },
  { title: 'Readiness' }
)
export type Readiness = Static<typeof Readiness>
