const TICK_MS = 10
/** Timers are late by a little at any time. */
const LATE_MS = 30

/**
 * Measures how long `work` takes, excluding pauses of the whole process: while other programs had the
 * processor, or garbage was collected. Nothing could have been answered then.
 */
export async function measure<Done>(work: () => Promise<Done>): Promise<{ done: Done; ms: number }> {
  const started = performance.now()
  let last = started
  let lost = 0
  const tick = () => {
    const now = performance.now()
    const late = now - last - TICK_MS
    if (late > LATE_MS) lost += late
    last = now
  }
  const timer = setInterval(tick, TICK_MS)
  try {
    const done = await work()
    tick()
    return { done, ms: performance.now() - started - lost }
  } finally {
    clearInterval(timer)
  }
}
