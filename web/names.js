const MAX_NAMES = 6
/** So much is looked at before the cursor; a nickname has at most 64 code points. */
const MAX_TYPED = 130

/**
 * The names that what is typed may become, those who wrote last first.
 * @param {string} typed after the `@` @param {Iterable<string>} names who wrote last first
 */
export function namesFor(typed, names) {
  const wanted = typed.toLocaleLowerCase()
  const fitting = []
  for (const name of names) {
    const words = name.toLocaleLowerCase().split(/\s+/)
    const isFitting =
      name.toLocaleLowerCase().startsWith(wanted) || words.some((word) => word.startsWith(wanted))
    if (isFitting) fitting.push(name)
    if (fitting.length === MAX_NAMES) break
  }
  return fitting
}

/** What was typed after the last `@`, if that may be a name. @param {string} before the cursor */
export const typedName = (before) => /(?<![\p{L}\p{N}_])@([^@\n]{0,64})$/u.exec(before.slice(-MAX_TYPED))?.[1]
