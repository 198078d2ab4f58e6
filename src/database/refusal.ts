/** What a function of the database answers: why it refused, or null when it did what it was asked. */
export interface Outcome<Refusal extends string> {
  refusal: Refusal | null
}

/**
 * Takes the only row that a function of the database returns.
 * @param errors the error for each reason to refuse
 * @throws the one for the reason that the row has
 */
export function accepted<Refusal extends string, Row extends Outcome<Refusal>>(
  row: Row | undefined,
  errors: Record<Refusal, new () => Error>
): Row {
  if (row === undefined) throw new Error('a function of PostgreSQL returned no row')
  if (row.refusal !== null) throw new errors[row.refusal]()
  return row
}
