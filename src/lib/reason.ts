/**
 * The reason of an error in one line. Where there is a cause, it says more, such as the words of PostgreSQL.
 * An AggregateError of several addresses has no message.
 */
export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  if (error.cause instanceof Error) return reasonOf(error.cause)
  return error.message || ('code' in error ? String(error.code) : error.name)
}
