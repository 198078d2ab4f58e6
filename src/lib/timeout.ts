/** No answer in time. */
export class TimeoutError extends Error {}

/**
 * Stops waiting for `work` after that many milliseconds. The work itself goes on.
 * @throws {TimeoutError} when the time is up
 */
export async function withTimeout<Result>(ms: number, work: Promise<Result>): Promise<Result> {
  let timer: NodeJS.Timeout | undefined
  const timeout = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new TimeoutError(`no answer in ${ms} ms`)), ms)
  })
  return Promise.race([work, timeout]).finally(() => clearTimeout(timer))
}
