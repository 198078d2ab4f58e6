import { createHash, randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { Cluster, type Redis } from 'ioredis'
import type { Log } from '../lib/logger.ts'
import { StartError } from '../lib/start-error.ts'

// A master that became a replica goes on with the connections that it has, and the address may lead to
// another one by now. Within a script, Redis before version 7 puts its own words before the code.
const DEMOTED = /(?:^|-)(?:READONLY|MASTERDOWN)\b/
const REFUSED = /(?:^|-)(?:READONLY|MASTERDOWN|OOM|MISCONF|NOREPLICAS|NOPERM)\b/
const CHECK_EVERY_MS = 500
/** How long a client waits before it connects again. */
export const RETRY_MS = 100

// What the probe writes is gone by then.
const PROBE_SECONDS = 10
// So many keys are on each of a cluster's masters, unless it has very many.
const CLUSTER_KEYS = 32

const SCRIPT = "return redis.call('GET', KEYS[1])"
const SHA = createHash('sha1').update(SCRIPT).digest('hex')

/** The commands of this service, all on keys like its own. Without one of them it could not do its work. */
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

/**
 * Knows whether Redis does what this service needs. It may well answer and still refuse: because it is a
 * replica now, full, cannot save, misses its replicas, or does not give the rights. Then a connection to a
 * replica is replaced, and the log has one line when that begins and one when it is over.
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

  /** The option `reconnectOnError` of the client: it is asked for every error that Redis answers with. */
  readonly reconnectOnError = ({ message }: Error): boolean => {
    if (REFUSED.test(message)) this.#noteRefusal(message)
    if (!DEMOTED.test(message) || performance.now() - this.#leftAt < RETRY_MS) return false
    // Once is enough for all answers on their way: each time, the client would add listeners to the same
    // socket.
    this.#leftAt = performance.now()
    return true
  }

  /** Begins to log, and to look whether it is over. */
  start(redis: Redis | Cluster): void {
    this.#redis = redis
  }

  stop(): void {
    this.#closing.abort()
  }

  /**
   * Does once what this service does, on keys of its own.
   * @throws {StartError} naming what the rights of the user do not include
   * @throws {Error} with the words of Redis, or of its client
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
      throw new StartError(
        `Redis does not allow ${name.toUpperCase()}${keys ? ` on ${keys}*` : ''}, which the service needs: ${error.message}`
      )
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
