/** The first signal to end, as the reason of `shutdownSignal`. */
export class Signalled extends Error {
  readonly signal: NodeJS.Signals
  constructor(signal: NodeJS.Signals) {
    super(`shutting down after ${signal}`)
    this.signal = signal
  }
}

/**
 * npm passes on the SIGINT that its child has had from the terminal already, so a signal that follows within
 * this time is the same one.
 */
const SAME_SIGNAL_MS = 500

const first = new AbortController()
const second = new AbortController()

/** Aborted by the first signal that asks the process to end, with a `Signalled` as the reason. */
export const shutdownSignal = first.signal
/**
 * Aborted when a signal comes again later: whoever sends it does not want to wait for a graceful shutdown.
 */
export const exitSignal = second.signal

let firstAt = 0
for (const name of ['SIGHUP', 'SIGINT', 'SIGQUIT', 'SIGTERM'] as const) {
  process.on(name, () => {
    if (!shutdownSignal.aborted) {
      firstAt = performance.now()
      first.abort(new Signalled(name))
    } else if (performance.now() - firstAt > SAME_SIGNAL_MS) {
      second.abort(new Signalled(name))
    }
  })
}
