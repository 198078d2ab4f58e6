import { createHash, randomBytes } from 'node:crypto'
import { setImmediate as immediate } from 'node:timers/promises'
import { Cluster, type Redis } from 'ioredis'
import type { Session } from '../../schemas/accounts.ts'
import { RedisUnavailable } from '../errors/catalogue.ts'

// Shared with the Go service: `session:<token>` holds the user's id as a decimal string for 24 hours.
const PREFIX = 'session:'
const TTL_SECONDS = 24 * 60 * 60
const TTL_MS = TTL_SECONDS * 1000
const key = (token: string) => `${PREFIX}${token}`
// Unknown to the Go service. These keys only describe sessions; whether a session is valid depends on its own
// key alone. Both are sorted sets of a user's tokens. Scored by expiry, in milliseconds.
const expirationsKey = (userId: number) => `chat-backend:user-sessions:${userId}`
// Scored by last use, in milliseconds.
const usesKey = (userId: number) => `chat-backend:session-uses:${userId}`
// The User-Agent of the login. One key for each session, so that it expires with the session.
const userAgentKey = (token: string) => `chat-backend:session-agent:${token}`

/** How many code points of a User-Agent header are kept. */
const MAX_USER_AGENT = 200
const BLANKS = /[\s\p{C}]+/gu

/** Shortens and cleans a User-Agent header, which the client chooses, for display. */
function cleanUserAgent(header = ''): string {
  // Cheap, because headers are limited to 16 KiB.
  const text = header.replace(BLANKS, ' ').trim()
  return [...text].slice(0, MAX_USER_AGENT).join('').trim()
}

/** How many sessions a user can have. */
const MAX_SESSIONS = 100
// Bounds the size of a command, so that none blocks Redis or this process for long.
const BATCH = 500

// Scans one page of all keys, and deletes the sessions of the given users, except one each. SCAN returns
// every key that exists from the start of a pass to its end
// (https://redis.io/docs/latest/commands/scan/#scan-guarantees).
const END_PAGE = `
  local page = redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2] .. '*', 'COUNT', ARGV[3])
  local kept = {}
  for i = 4, #ARGV, 2 do
    kept[ARGV[i]] = kept[ARGV[i]] or {}
    table.insert(kept[ARGV[i]], ARGV[i + 1])
  end
  for _, key in ipairs(page[2]) do
    for _, other in ipairs(kept[redis.pcall('GET', key)] or {}) do
      if key ~= other then redis.call('DEL', key) end
    end
  end
  return page[1]`

/** A session as its user may see it, with its token, which must never be sent to a client. */
type KnownSession = Session & { token: string }

/** Other programs write sessions too. An id that is not exact as a number would be that of another user. */
function toUserId(text: string | null | undefined): number | undefined {
  const id = text && /^\d+$/.test(text) ? Number(text) : undefined
  return Number.isSafeInteger(id) ? id : undefined
}

const throwNamed = (cause: unknown): never => {
  throw new RedisUnavailable({ cause })
}
const isCluster = (redis: Redis | Cluster): redis is Cluster => redis instanceof Cluster

function* batches<Item>(items: Item[]): Generator<Item[]> {
  for (let from = 0; from < items.length; from += BATCH) yield items.slice(from, from + BATCH)
}

/** The sessions of all users, in Redis. Every method throws `RedisUnavailable` if Redis does not answer. */
export class Sessions {
  #redis: Redis | Cluster
  // The tokens to look up in this turn of the event loop, and the resulting users.
  #wanted: string[] = []
  #found: Promise<(string | null)[]> | undefined
  // The users whose sessions the next pass ends, and the session that each keeps.
  #ending: [userId: number, kept: string][] = []
  #nextPass: Promise<void> | undefined
  #pass: Promise<void> = Promise.resolve()

  constructor(redis: Redis | Cluster) {
    this.#redis = redis
  }

  /**
   * Starts a session, and ends the oldest ones beyond the limit.
   * @param userAgent the header of the login request
   * @returns its token
   */
  async start(userId: number, userAgent?: string): Promise<string> {
    const token = randomBytes(32).toString('hex')
    const cleaned = cleanUserAgent(userAgent)
    try {
      // First, because a described session without this key counts as ended.
      await Promise.all([
        this.#redis.set(key(token), userId, 'EX', TTL_SECONDS),
        cleaned !== '' && this.#redis.set(userAgentKey(token), cleaned, 'EX', TTL_SECONDS)
      ])
      await this.#describe(token, userId, Date.now() + TTL_MS)
    } catch (error) {
      throwNamed(error)
    }
    return token
  }

  /**
   * Finds the user that a session token belongs to. All lookups in one turn of the event loop are sent as one
   * command, which costs little more than one lookup.
   * @returns the user's id; undefined if there is no such session
   */
  async find(token: string): Promise<number | undefined> {
    const index = this.#wanted.push(token) - 1
    this.#found ??= this.#readWanted().catch(throwNamed)
    return toUserId((await this.#found)[index])
  }

  /**
   * Records that a session was used. This is also how sessions of the Go service become known here.
   */
  async noteUse(token: string, userId: number): Promise<void> {
    try {
      const left = await this.#redis.pttl(key(token))
      if (left > 0) await this.#describe(token, userId, Date.now() + left)
    } catch (error) {
      throwNamed(error)
    }
  }

  /** Lists a user's sessions, last used first. */
  async list(userId: number, current: string): Promise<KnownSession[]> {
    await this.noteUse(current, userId) // this may be its first use here
    const sessions = await this.#tidy(userId).catch(throwNamed)
    const userAgents = await this.#get(sessions.map(({ token }) => userAgentKey(token))).catch(throwNamed)
    return sessions.map(({ token, expiresAt, usedAt }, i) => ({
      token,
      current: token === current,
      id: createHash('sha256').update(token).digest('base64url').slice(0, 22),
      createdAt: new Date(expiresAt - TTL_MS).toISOString(),
      lastSeenAt: new Date(usedAt).toISOString(),
      userAgent: userAgents[i] ?? null
    }))
  }

  /** Ends a session. @returns its user's id; undefined if there was no such session */
  async end(token: string): Promise<number | undefined> {
    try {
      // Pipelined, in this order.
      const [userId, count] = await Promise.all([
        this.#redis.get(key(token)),
        this.#redis.del(key(token)),
        this.#redis.del(userAgentKey(token)) // alone: in a cluster it may be on another server
      ])
      return count === 1 ? toUserId(userId) : undefined
    } catch (error) {
      return throwNamed(error)
    }
  }

  /**
   * Ends all of a user's sessions except one. It scans the sessions of all users, because the Go service
   * starts sessions that this service does not know of, and a thief's may be among them. One pass at a time
   * runs, for all calls that were made before it began.
   */
  async endOthers(userId: number, current: string): Promise<void> {
    this.#ending.push([userId, key(current)])
    this.#nextPass ??= this.#pass
      .catch(() => {})
      .then(() => {
        const users = this.#ending
        this.#ending = []
        this.#nextPass = undefined
        this.#pass = this.#endAll(users)
        return this.#pass
      })
    await this.#nextPass.catch(throwNamed)
  }

  /** Ends all of a user's sessions, in the same way. */
  async endAll(userId: number): Promise<void> {
    await this.endOthers(userId, '')
  }

  /** Ends all sessions of a deleted user, and removes the keys that describe them. */
  async forget(userId: number): Promise<void> {
    try {
      const tokens = [...(await this.#readSet(expirationsKey(userId))).keys()]
      await this.endAll(userId)
      for (const batch of batches(tokens)) {
        await Promise.all(batch.map((token) => this.#redis.del(userAgentKey(token))))
      }
      await Promise.all([this.#redis.del(expirationsKey(userId)), this.#redis.del(usesKey(userId))])
    } catch (error) {
      throwNamed(error)
    }
  }

  async #endAll(users: [userId: number, kept: string][]): Promise<void> {
    const servers = isCluster(this.#redis) ? this.#redis.nodes('master') : [this.#redis]
    await Promise.all(
      servers.map(async (server) => {
        let cursor = '0'
        do cursor = String(await server.eval(END_PAGE, 0, cursor, PREFIX, BATCH, ...users.flat()))
        while (cursor !== '0')
      })
    )
  }

  async #readWanted(): Promise<(string | null)[]> {
    await immediate()
    const keys = this.#wanted.map(key)
    this.#wanted = []
    this.#found = undefined
    return this.#get(keys)
  }

  async #get(keys: string[]): Promise<(string | null)[]> {
    // In a cluster, all keys of a command must be on one server.
    return isCluster(this.#redis)
      ? Promise.all(keys.map((key) => this.#redis.get(key)))
      : this.#redis.mget(keys)
  }

  /** Updates the description of a session, and ends the oldest ones beyond the limit. */
  async #describe(token: string, userId: number, expiresAt: number): Promise<void> {
    const now = Date.now()
    const [expirations, uses] = [expirationsKey(userId), usesKey(userId)]
    const [, , count] = await Promise.all([
      this.#redis.zadd(expirations, 'NX', expiresAt, token),
      this.#redis.zremrangebyscore(expirations, 0, now),
      this.#redis.zcard(expirations),
      this.#redis.expire(expirations, TTL_SECONDS),
      this.#redis.zadd(uses, now, token),
      this.#redis.zremrangebyscore(uses, 0, now - TTL_MS),
      this.#redis.expire(uses, TTL_SECONDS)
    ])
    if (count > MAX_SESSIONS) await this.#tidy(userId)
  }

  /**
   * Forgets a user's ended sessions, and ends those beyond the limit, least recently used first. Each start
   * of a session calls this afterwards, so even if many start at once, the last call sees all of them.
   * @returns the remaining sessions, last used first
   */
  async #tidy(userId: number): Promise<{ token: string; expiresAt: number; usedAt: number }[]> {
    const [expirations, uses] = await Promise.all([
      this.#readSet(expirationsKey(userId)),
      this.#readSet(usesKey(userId))
    ])
    const all = [...expirations]
      .map(([token, expiresAt]) => ({ token, expiresAt, usedAt: uses.get(token) ?? expiresAt - TTL_MS }))
      .sort((one, other) => other.usedAt - one.usedAt || (one.token < other.token ? -1 : 1))
    const left: typeof all = []
    const gone: string[] = []
    for (const batch of batches(all)) {
      const isFull = left.length === MAX_SESSIONS
      const owners = isFull ? [] : await this.#get(batch.map(({ token }) => key(token)))
      const surplus: string[] = []
      for (const [i, session] of batch.entries()) {
        if (isFull || (owners[i] === `${userId}` && left.length === MAX_SESSIONS)) surplus.push(session.token)
        else if (owners[i] === `${userId}`) left.push(session)
        else gone.push(session.token)
      }
      await this.#delete(surplus)
      gone.push(...surplus)
    }
    for (const batch of batches(gone)) {
      await Promise.all([
        this.#redis.zrem(expirationsKey(userId), batch),
        this.#redis.zrem(usesKey(userId), batch)
      ])
    }
    return left
  }

  async #delete(tokens: string[]): Promise<void> {
    if (tokens.length === 0) return
    if (isCluster(this.#redis)) await Promise.all(tokens.map((token) => this.#redis.del(key(token))))
    else await this.#redis.del(tokens.map(key))
  }

  async #readSet(name: string): Promise<Map<string, number>> {
    const scores = new Map<string, number>()
    for (let from = 0; ; from += BATCH) {
      const page = await this.#redis.zrange(name, `${from}`, `${from + BATCH - 1}`, 'WITHSCORES')
      for (let i = 0; i < page.length; i += 2) scores.set(page[i] ?? '', Number(page[i + 1]))
      if (page.length < 2 * BATCH) return scores
    }
  }
}
