import { createHash, randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { Cluster, type Redis } from 'ioredis'
import type { Log } from '../lib/logger.ts'
import { StartError } from '../lib/start-error.ts'

// A demoted master keeps its connections, although the address may lead to another server by now. Before
// version 7, Redis puts other words before the code of an error within a script.
const DEMOTED = /(?:^|-)(?:READONLY|MASTERDOWN)\b/
const REFUSED = /(?:^|-)(?:READONLY|MASTERDOWN|OOM|MISCONF|NOREPLICAS|NOPERM)\b/
const CHECK_EVERY_MS = 500
/** How long a client waits before it reconnects for the first time. */
export const RETRY_MS = 100

// The keys that the probe writes expire after this time.
const PROBE_SECONDS = 10
// With this many keys, each master of a cluster holds some, unless there are very many masters.
const CLUSTER_KEYS = 32

const SCRIPT = "return redis.call('GET', KEYS[1])"
const SHA = createHash('sha1').update(SCRIPT).digest('hex')

/** All commands that this service needs, on keys that look like its own. */
function probe(tag: string): [name: string, ...args: (string | number)[]][] {
  const session = `session:{${tag}}`
  const other = `chat-backend:{${tag}}`
  return [
    ['set', session, 'probe', 'EX', PROBE_SECONDS],
    ['get', session],
    ['mget', session],
    ['pttl', session],
    ['eval', SCRIPT, 1, session],
    ['evalsha', SHA, 1, session],
    ['script', 'exists', SHA],
    ['scan', '0', 'COUNT', 1],
    ['del', session],
    ['time'],
    ['zadd', other, 1, 'probe'],
    ['expire', other, PROBE_SECONDS],
    ['pexpire', other, PROBE_SECONDS * 1000],
    ['zcard', other],
    ['zrange', other, 0, 0],
    ['zremrangebyscore', other, 0, 0],
    ['zrem', other, 'probe']
  ]
}

/** An error that Redis answers with; ioredis adds the command. */
type ReplyError = Error & { command?: { name: string } }

/**
 * Watches whether Redis does what this service needs. Redis may answer and still refuse commands: because it
 * was demoted to a replica, is full, cannot save, misses its replicas, or because the user lacks rights. A
 * connection to a replica is replaced. The log has one line when such a refusal begins, and one when it ends.
 */
export class RedisWatch {
  #log: Log
  #redis: Redis | Cluster | undefined
  #refusal: string | undefined
  #closing = new AbortController()
  #leftAt = -Infinity
  readonly #tag = `probe-${randomBytes(8).toString('hex')}`

  constructor(log: Log) {
    this.#log = log
  }

  /** The client's option `reconnectOnError`, which is called for each error reply of Redis. */
  readonly reconnectOnError = ({ message, command }: ReplyError): boolean => {
    // Publications may be lost, so the service works without that right.
    if (REFUSED.test(message) && command?.name !== 'publish') this.#noteRefusal(message)
    if (!DEMOTED.test(message) || performance.now() - this.#leftAt < RETRY_MS) return false
    // Once for all replies on their way: the client would add listeners to the same socket each time.
    this.#leftAt = performance.now()
    return true
  }

  /** Starts to log refusals, and to probe whether they are over. */
  start(redis: Redis | Cluster): void {
    this.#redis = redis
  }

  stop(): void {
    this.#closing.abort()
  }

  /**
   * Tries all commands that this service needs.
   * @throws {StartError} that names what the user has no rights for
   * @throws {Error} from Redis or its client
   */
  async check(redis: Redis | Cluster): Promise<void> {
    const commands = probe(this.#tag)
    const results = (await redis.pipeline(commands).exec()) ?? []
    const failures = results.flatMap(([error], i) => (error ? [{ error, command: commands[i] ?? [''] }] : []))
    const denied = failures.find(({ error }) => /\bNOPERM\b/.test(error.message))
    if (denied) {
      const {
        error,
        command: [name, key = '']
      } = denied
      const keys = /^[\w-]+:/.exec(String(key))?.[0]
      const what = `${name.toUpperCase()}${keys ? ` on ${keys}*` : ''}`
      throw new StartError(`Redis does not allow ${what}, which the service needs: ${error.message}`)
    }
    if (failures[0]) throw failures[0].error
    if (redis instanceof Cluster) {
      await Promise.all(
        Array.from({ length: CLUSTER_KEYS }, (_, i) =>
          redis.set(`chat-backend:${this.#tag}:${i}`, 'probe', 'EX', PROBE_SECONDS)
        )
      )
    }
  }

  #noteRefusal(message: string): void {
    if (this.#redis === undefined || this.#refusal !== undefined) return
    this.#refusal = message
    this.#log.warn(`Redis refuses commands that the service needs: ${message}`)
    void this.#waitUntilOver(this.#redis)
  }

  async #waitUntilOver(redis: Redis | Cluster): Promise<void> {
    while (this.#refusal !== undefined) {
      try {
        await sleep(CHECK_EVERY_MS, undefined, { signal: this.#closing.signal, ref: false })
        await this.check(redis)
        this.#refusal = undefined
        this.#log.info('Redis accepts commands again')
      } catch {
        if (this.#closing.signal.aborted) return
      }
    }
  }
}
