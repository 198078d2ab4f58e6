import { once } from 'node:events'
import { createRequire } from 'node:module'
import { availableParallelism } from 'node:os'
import { Worker } from 'node:worker_threads'
import { FairQueue } from '../lib/fair-queue.ts'

type Task = { password: string; cost: number } | { password: string; storedHash: string }

/** The client that a password is hashed for. */
interface Client {
  address: string
  /** Aborts when the client is gone. A hash that has started is finished. */
  signal: AbortSignal
}

// Inlined as a string: loading TypeScript in each thread would cost the tests a second. Only Linux has
// priorities per thread; elsewhere this would slow down the whole service. Hashing also works where it is
// forbidden.
const THREAD = `
  const { parentPort, workerData } = require('node:worker_threads')
  const { hashSync, verifySync } = require(workerData)
  try { if (process.platform === 'linux') require('node:os').setPriority(10) } catch {}
  parentPort.on('message', ({ password, cost, storedHash }) =>
    parentPort.postMessage(cost === undefined ? verifySync(password, storedHash) : hashSync(password, cost)))`
const bcrypt = createRequire(import.meta.url).resolve('@node-rs/bcrypt')
// Leave one core to everything else.
const THREADS = Math.max(1, availableParallelism() - 1)
/** How many passwords may wait for a thread. At cost 10 and one thread, the last one waits about 9 s. */
export const MAX_WAITING = 128

/**
 * Hashes and verifies passwords of at most 72 bytes with bcrypt at `cost`. Hashes from Go (`$2a$`) and PHP
 * (`$2y$`) are accepted too. A few low-priority threads do the work, so a storm of logins does not slow down
 * the chat. Waiting clients take turns by address, so a storm delays only the addresses it comes from. Both
 * functions throw `Busy` if too many are waiting, and `ClientGone` if `signal` aborts before their turn.
 */
export function createPasswords(cost: number) {
  const queue = new FairQueue({ concurrency: THREADS, maxWaiting: MAX_WAITING })
  const threads = new Set<Worker>()
  const idle: Worker[] = []

  function startThread(): Worker {
    const thread = new Worker(THREAD, { eval: true, execArgv: [], workerData: bcrypt })
    thread.unref()
    threads.add(thread)
    // The pending call also gets the error.
    return thread.on('exit', () => threads.delete(thread)).on('error', () => {})
  }

  const run = <Result>(task: Task, { address, signal }: Client): Promise<Result> =>
    queue.run(address, signal, async () => {
      const thread = idle.pop() ?? startThread()
      thread.postMessage(task)
      const [result] = await once(thread, 'message')
      idle.push(thread)
      return result
    })

  // Matches no password. Verifying against it makes an unknown nickname cost as much as a known one.
  const nobody = `$2b$${String(cost).padStart(2, '0')}$${'.'.repeat(53)}`
  return {
    hash: async (password: string, client: Client): Promise<string> => {
      const hash = await run<string>({ password, cost }, client)
      return hash.replace('$2y$', '$2b$') // PHP's name for the same algorithm
    },
    /**
     * Resolves to false without a hash (an unknown nickname) and for a password that bcrypt would truncate,
     * and takes as long as for any other.
     */
    verify: async (password: string, storedHash: string | undefined, client: Client): Promise<boolean> => {
      const comparable = storedHash !== undefined && Buffer.byteLength(password) <= 72
      return (
        (await run<boolean>({ password, storedHash: comparable ? storedHash : nobody }, client)) && comparable
      )
    },
    /** How many passwords are being hashed, and how many are waiting. */
    get queue() {
      return { running: queue.running, waiting: queue.waiting }
    },
    /** Stops the threads. */
    close: async () => {
      await Promise.all([...threads].map((thread) => thread.terminate()))
    }
  }
}
