import { once } from 'node:events'
import { createRequire } from 'node:module'
import { availableParallelism } from 'node:os'
import { Worker } from 'node:worker_threads'
import { Busy, ClientGone } from '../errors.ts'

type Task = { password: string, cost: number } | { password: string, storedHash: string }

// A text, so that no thread needs what loads TypeScript in the tests, which would take it a second. On Linux each thread has a
// priority of its own; elsewhere this would slow the whole service. Where it is forbidden, hashing works all the same.
const THREAD = `
  const { parentPort, workerData } = require('node:worker_threads')
  const { hashSync, verifySync } = require(workerData)
  try { if (process.platform === 'linux') require('node:os').setPriority(10) } catch {}
  parentPort.on('message', ({ password, cost, storedHash }) =>
    parentPort.postMessage(cost === undefined ? verifySync(password, storedHash) : hashSync(password, cost)))`
const bcrypt = createRequire(import.meta.url).resolve('@node-rs/bcrypt')
// One core stays free for everything else.
const THREADS = Math.max(1, availableParallelism() - 1)
/** How many passwords may wait for a thread: at cost 10 and one thread, the last of them waits about 9 s. */
export const MAX_WAITING = 128

/**
 * Hashes passwords of at most 72 bytes with bcrypt at `cost`, and checks them; hashes made by Go (`$2a$`) and PHP (`$2y$`) are
 * accepted. It works on threads of low priority, a few at a time, so that a storm of logins does not slow the chat.
 * Both functions throw `Busy` when too many wait already, and `ClientGone` when `signal` aborts before it is their turn.
 */
export function createPasswords (cost: number) {
  const threads = new Set<Worker>()
  const idle: Worker[] = []
  const waiting = new Set<() => void>()
  let free = THREADS

  function startThread (): Worker {
    const thread = new Worker(THREAD, { eval: true, execArgv: [], workerData: bcrypt })
    thread.unref()
    threads.add(thread)
    return thread.on('exit', () => threads.delete(thread)).on('error', () => {}) // whoever waits for it gets the error as well
  }

  async function turn (signal: AbortSignal): Promise<void> {
    if (signal.aborted) throw new ClientGone()
    if (free > 0) {
      free--
      return
    }
    if (waiting.size >= MAX_WAITING) throw new Busy()
    await new Promise<void>((resolve, reject) => {
      waiting.add(resolve)
      signal.addEventListener('abort', () => { if (waiting.delete(resolve)) reject(new ClientGone()) }, { once: true })
    })
  }

  async function run<Result> (task: Task, signal: AbortSignal): Promise<Result> {
    await turn(signal)
    try {
      const thread = idle.pop() ?? startThread()
      thread.postMessage(task)
      const [result] = await once(thread, 'message')
      idle.push(thread)
      return result
    } finally {
      const [next] = waiting
      if (next === undefined) free++
      else if (waiting.delete(next)) next()
    }
  }

  // The hash of no password at all: an unknown nickname costs as much as a known one.
  const nobody = `$2b$${String(cost).padStart(2, '0')}$${'.'.repeat(53)}`
  return {
    // The library writes `$2y$`, PHP's name for the same algorithm.
    hash: async (password: string, signal: AbortSignal) => (await run<string>({ password, cost }, signal)).replace('$2y$', '$2b$'),
    /** Without a hash (an unknown nickname), or for a password that bcrypt would cut, the answer is no, and as slow as any other. */
    verify: async (password: string, storedHash: string | undefined, signal: AbortSignal): Promise<boolean> => {
      const comparable = storedHash !== undefined && Buffer.byteLength(password) <= 72
      return await run<boolean>({ password, storedHash: comparable ? storedHash : nobody }, signal) && comparable
    },
    /** How many are under way, and how many wait for a thread. */
    get queue () {
      return { running: THREADS - free, waiting: waiting.size }
    },
    /** Ends the threads. */
    close: async () => { await Promise.all([...threads].map((thread) => thread.terminate())) }
  }
}
