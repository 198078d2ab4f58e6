import type { Log } from '../../src/lib/logger.ts'

/** A logger that discards everything. */
export const quiet: Log = { info: () => {}, warn: () => {}, error: () => {} }
