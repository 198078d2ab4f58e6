import { type Static, Type } from '@sinclair/typebox'

export const Health = Type.Object(
  { status: Type.Literal('ok') },
  { title: 'HealthStatus', description: 'Yes.', examples: [{ status: 'ok' }] }
)

const forInvalid = { code: 'for_invalid', message: "for must be 'reads', or left out" }

/** What readiness is asked for. */
export const Readiness = Type.Object(
  {
    for: Type.Optional(
      Type.Literal('reads', {
        description:
          'Asks only whether this replica can answer the newest page, even a stale one. Meant for load balancers.',
        errorMessages: { const: forInvalid, type: forInvalid }
      })
    )
  },
  { title: 'Readiness' }
)
export type Readiness = Static<typeof Readiness>
