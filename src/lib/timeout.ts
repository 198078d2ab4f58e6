/** The work did not finish in time. */
export class TimeoutError extends Error {}

/**
 * Stops waiting for `work` after `ms` milliseconds. The work itself goes on.
 * @throws {TimeoutError}
 */
export async function withTimeout<Result>(ms: number, work: Promise<Result>): Promise<Result> {
  let timer: NodeJS.Timeout | undefined
  const timeout = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new TimeoutError(`no answer in ${ms} ms`)), ms)
  })
  return Promise.race([work, timeout]).finally(() => clearTimeout(timer))
}
