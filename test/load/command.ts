/**
 * @throws {Error} with a sentence for whoever typed it, when `text` is no whole number from 1 to `maximum`
 */
export function whole(name: string, text: string, maximum: number): number {
  if (/^[1-9]\d{0,7}$/.test(text) && Number(text) <= maximum) return Number(text)
  throw new Error(`--${name} must be a whole number from 1 to ${maximum}, not ${JSON.stringify(text)}.`)
}

/**
 * Runs a command as this whole process, which exits with 2 after a usage sentence when `read` throws, 130
 * when it was interrupted, 1 when `work` rejected or resolved to false, and 0 else.
 * @param read returns the arguments
 * @param work gets a signal that aborts at Ctrl-C and at the other polite signals: it still has to let go of
 * what it holds
 */
export async function runCommand<Arguments>(
  usage: string,
  read: () => Arguments,
  work: (given: Arguments, signal: AbortSignal) => Promise<boolean>
): Promise<void> {
  let given
  try {
    given = read()
  } catch (error) {
    console.error(`${(error as Error).message}\nUsage: ${usage}`)
    process.exitCode = 2
    return
  }
  const interruption = new AbortController()
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, () => interruption.abort())
  try {
    process.exitCode = (await work(given, interruption.signal)) ? 0 : 1
  } catch (error) {
    if (!interruption.signal.aborted) console.error((error as Error).message)
    process.exitCode = 1
  }
  if (interruption.signal.aborted) process.exitCode = 130
}
