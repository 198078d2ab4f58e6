/** A row from an SQL function: why it refused, or null if it did its work. */
export interface Outcome<Refusal extends string> {
  refusal: Refusal | null
}

/**
 * Checks the row that an SQL function returned.
 * @param errors the error for each refusal
 * @throws the error for the row's refusal, if it has one
 */
export function accepted<Refusal extends string, Row extends Outcome<Refusal>>(
  row: Row | undefined,
  errors: Record<Refusal, new () => Error>
): Row {
  if (row === undefined) throw new Error('a function of PostgreSQL returned no row')
  if (row.refusal !== null) throw new errors[row.refusal]()
  return row
}
