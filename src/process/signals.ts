/** The reason of an abort: the signal that the process received. */
export class Signalled extends Error {
  readonly signal: NodeJS.Signals
  constructor(signal: NodeJS.Signals) {
    super(`shutting down after ${signal}`)
    this.signal = signal
  }
}

/**
 * On Ctrl-C, npm forwards the SIGINT that its child has already received from the terminal. A signal within
 * this time counts as the same one.
 */
const SAME_SIGNAL_MS = 500

const first = new AbortController()
const second = new AbortController()

/** Aborts at the first signal, with a `Signalled` as the reason: time for a graceful shutdown. */
export const shutdownSignal = first.signal
/**
 * Aborts at the second signal: exit without waiting for the graceful shutdown.
 */
export const exitSignal = second.signal

const SIGNALS = ['SIGHUP', 'SIGINT', 'SIGQUIT', 'SIGTERM'] as const
let firstAt = 0
for (const name of SIGNALS) {
  process.on(name, () => {
    if (!shutdownSignal.aborted) {
      firstAt = performance.now()
      first.abort(new Signalled(name))
    } else if (performance.now() - firstAt > SAME_SIGNAL_MS) {
      second.abort(new Signalled(name))
    }
  })
}

/** Gives the signals back their default actions: each ends the process, even if JavaScript no longer runs. */
export function restoreDefaultActions(): void {
  for (const name of SIGNALS) process.removeAllListeners(name)
}
