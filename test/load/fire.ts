import { createHistogram, type Histogram } from 'node:perf_hooks'
import autocannon from 'autocannon'

// A service that is gone refuses thousands of connections a second.
const MAX_ERRORS = 100

export interface Outcome {
  result: autocannon.Result
  errors: number
  latencies: Histogram
}

/**
 * Sends requests as fast as the answers come.
 * @param failures counts what went wrong, by what it was
 * @returns autocannon's result, the number of requests without an answer, and the latencies in microseconds,
 * where autocannon itself has whole milliseconds
 */
export async function fire(
  options: autocannon.Options,
  failures: Map<string, number>,
  signal: AbortSignal
): Promise<Outcome> {
  signal.throwIfAborted()
  return new Promise((resolve, reject) => {
    const latencies = createHistogram()
    const count = (failure: string, times = 1) => failures.set(failure, (failures.get(failure) ?? 0) + times)
    const stop = () => instance.stop()
    const instance = autocannon(
      { sampleInt: 100, bailout: MAX_ERRORS, ...options },
      (error: Error | null, result) => {
        signal.removeEventListener('abort', stop)
        if (signal.aborted) return reject(signal.reason)
        if (error) return reject(error)
        // A connection that closes before its answer is no error to autocannon; but at the end each can have
        // only one open.
        const dropped = Math.max(
          0,
          result.requests.sent - result.requests.total - result.errors - result.connections
        )
        if (dropped > 0) count('connection closed without an answer', dropped)
        if (result.requests.total === 0) count('no answer at all')
        resolve({ result, errors: result.errors + dropped, latencies })
      }
    )
    instance.on('response', (_client, status, _bytes, ms) => {
      latencies.record(Math.max(1, Math.round(ms * 1000)))
      if (status < 200 || status > 299) count(`answered ${status}`)
    })
    instance.on('reqError', (error: Error) => count(error.message))
    signal.addEventListener('abort', stop)
  })
}

/** The same, where each answer must be a good one. */
export async function fireWell(options: autocannon.Options, signal: AbortSignal): Promise<Outcome> {
  const failures = new Map<string, number>()
  const outcome = await fire(options, failures, signal)
  if (failures.size > 0) {
    throw new Error(
      `${options.url}: ${[...failures].map(([failure, times]) => `${failure} (${times})`).join(', ')}`
    )
  }
  return outcome
}
