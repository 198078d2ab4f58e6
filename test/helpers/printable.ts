/** Writes a value as JSON in printable ASCII, because a test's name must be one line. */
export const printable = (value: unknown): string =>
  (JSON.stringify(value) ?? 'undefined')
    .replace(/[^ -~]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)
    .slice(0, 80)
