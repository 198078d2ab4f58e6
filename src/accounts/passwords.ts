import { once } from 'node:events'
import { createRequire } from 'node:module'
import { availableParallelism } from 'node:os'
import { Worker } from 'node:worker_threads'
import { FairQueue } from '../lib/fair-queue.ts'

type Task = { password: string; cost: number } | { password: string; storedHash: string }

/** For whom a password is hashed. */
interface Client {
  address: string
  /** Aborts when the client has gone. A password that is being hashed by then is hashed to the end. */
  signal: AbortSignal
}

// A text, so that no thread needs what loads TypeScript in the tests, which would take it a second. On Linux
// each thread has a priority of its own; elsewhere this would slow the whole service. Where it is forbidden,
// hashing works all the same.
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
 * Hashes passwords of at most 72 bytes with bcrypt at `cost`, and checks them; hashes made by Go (`$2a$`) and
 * PHP (`$2y$`) are accepted. It works on threads of low priority, a few at a time, so that a storm of logins
 * does not slow the chat. Those that wait take turns by the address of the client, so that a storm delays
 * nobody but the addresses it comes from. Both functions throw `Busy` when too many wait already, and
 * `ClientGone` when `signal` aborts before it is their turn.
 */
export function createPasswords(cost: number) {
  const queue = new FairQueue({ concurrency: THREADS, maxWaiting: MAX_WAITING })
  const threads = new Set<Worker>()
  const idle: Worker[] = []

  function startThread(): Worker {
    const thread = new Worker(THREAD, { eval: true, execArgv: [], workerData: bcrypt })
    thread.unref()
    threads.add(thread)
    // Whoever waits for it gets the error as well.
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

  // The hash of no password at all: an unknown nickname costs as much as a known one.
  const nobody = `$2b$${String(cost).padStart(2, '0')}$${'.'.repeat(53)}`
  return {
    hash: async (password: string, client: Client): Promise<string> => {
      const hash = await run<string>({ password, cost }, client)
      return hash.replace('$2y$', '$2b$') // PHP's name for the same algorithm, which the library writes
    },
    /**
     * Without a hash (an unknown nickname), or for a password that bcrypt would cut, the answer is no, and as
     * slow as any other.
     */
    verify: async (password: string, storedHash: string | undefined, client: Client): Promise<boolean> => {
      const comparable = storedHash !== undefined && Buffer.byteLength(password) <= 72
      return (
        (await run<boolean>({ password, storedHash: comparable ? storedHash : nobody }, client)) && comparable
      )
    },
    /** How many are under way, and how many wait for a thread. */
    get queue() {
      return { running: queue.running, waiting: queue.waiting }
    },
    /** Ends the threads. */
    close: async () => {
      await Promise.all([...threads].map((thread) => thread.terminate()))
    }
  }
}
