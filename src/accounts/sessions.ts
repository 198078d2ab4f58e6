import { createHash, randomBytes } from 'node:crypto'
import { setImmediate as immediate } from 'node:timers/promises'
import { Cluster, type Redis } from 'ioredis'
import type { Session } from '../../schemas/accounts.ts'
import { RedisUnavailable } from '../errors/catalogue.ts'

// Sessions are shared with the Go service: `session:<token>` holds the user's id as a decimal string, for 24
// hours.
const PREFIX = 'session:'
const TTL_SECONDS = 24 * 60 * 60
const TTL_MS = TTL_SECONDS * 1000
const key = (token: string) => `${PREFIX}${token}`
// What the Go service does not know. These only describe sessions: whether one lives, its own key alone
// decides. Both are sorted sets of a user's tokens.
// With the milliseconds when each expires.
const expirationsKey = (userId: number) => `chat-backend:user-sessions:${userId}`
// With those when each was last used.
const usesKey = (userId: number) => `chat-backend:session-uses:${userId}`
// The User-Agent header of a session's login. A key for each session, so that it expires with it.
const userAgentKey = (token: string) => `chat-backend:session-agent:${token}`

/** How many code points of a User-Agent header are kept. */
const MAX_USER_AGENT = 200
const BLANKS = /[\s\p{C}]+/gu

/** A User-Agent header as its user may see it. Whoever logs in chooses it, so it is bounded and cleaned. */
function cleanUserAgent(header = ''): string {
  // A header has at most 16 KiB, so this costs little.
  const text = header.replace(BLANKS, ' ').trim()
  return [...text].slice(0, MAX_USER_AGENT).join('').trim()
}

/** The most sessions that a user can have. */
export const MAX_SESSIONS = 100
// Of commands that have a length: none of them may keep Redis or this process from everything else for long.
const BATCH = 500

// Deletes, of one page of all keys, the sessions of some users, each but one. SCAN sees every key that is
// there from the beginning of a pass to its end
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

/** A session as its user may see it, and its token, which must not go out. */
type KnownSession = Session & { token: string }

const toUserId = (text: string | null | undefined) => (text && /^\d+$/.test(text) ? Number(text) : undefined)
const throwNamed = (cause: unknown): never => {
  throw new RedisUnavailable({ cause })
}
const isCluster = (redis: Redis | Cluster): redis is Cluster => redis instanceof Cluster

function* batches<Item>(items: Item[]): Generator<Item[]> {
  for (let from = 0; from < items.length; from += BATCH) yield items.slice(from, from + BATCH)
}

/** The sessions of all users, in Redis. Every method throws `RedisUnavailable` when Redis does not answer. */
export class Sessions {
  #redis: Redis | Cluster
  // Those who are looked for in this turn of the event loop, and their users.
  #wanted: string[] = []
  #found: Promise<(string | null)[]> | undefined
  // Whose sessions the next pass ends, and which one of each it keeps.
  #ending: [userId: number, kept: string][] = []
  #nextPass: Promise<void> | undefined
  #pass: Promise<void> = Promise.resolve()

  constructor(redis: Redis | Cluster) {
    this.#redis = redis
  }

  /**
   * Starts a session, and ends those that are too many.
   * @param userAgent the header of the request that logs in
   * @returns its token
   */
  async start(userId: number, userAgent?: string): Promise<string> {
    const token = randomBytes(32).toString('hex')
    const cleaned = cleanUserAgent(userAgent)
    try {
      // Before it is described, because what has no key of its own is taken for one that has ended.
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
   * Resolves to the id of the user whose session a token is, or to undefined when there is none. All that are
   * asked for in one turn of the event loop are one command, which costs little more than one of them.
   */
  async find(token: string): Promise<number | undefined> {
    const index = this.#wanted.push(token) - 1
    this.#found ??= this.#readWanted().catch(throwNamed)
    return toUserId((await this.#found)[index])
  }

  /**
   * Notes that a session is in use; the first time is when a session of the Go service becomes known here.
   */
  async noteUse(token: string, userId: number): Promise<void> {
    try {
      const left = await this.#redis.pttl(key(token))
      if (left > 0) await this.#describe(token, userId, Date.now() + left)
    } catch (error) {
      throwNamed(error)
    }
  }

  /** Lists the sessions of a user, the last used first. */
  async list(userId: number, current: string): Promise<KnownSession[]> {
    await this.noteUse(current, userId) // its first use may be this one
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

  /** Ends a session. @returns the user whose session it was, or undefined when there was none */
  async end(token: string): Promise<number | undefined> {
    try {
      // Sent together, and in this order.
      const [userId, count] = await Promise.all([
        this.#redis.get(key(token)),
        this.#redis.del(key(token)),
        this.#redis.del(userAgentKey(token)) // not in one command: in a cluster it may be on another server
      ])
      return count === 1 ? toUserId(userId) : undefined
    } catch (error) {
      return throwNamed(error)
    }
  }

  /**
   * Ends every session of a user but one. It looks at all sessions of all users: what this service knows of
   * them may be incomplete, because the Go service starts some too, and whoever ends them all wants a thief's
   * to be among them. One pass serves everybody who asked for it before it began; only one at a time is under
   * way.
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

  /** Ends every session of a user, as `endOthers` does. */
  async endAll(userId: number): Promise<void> {
    await this.endOthers(userId, '')
  }

  /** Ends every session of a user who is deleted, and forgets what was known of them. */
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
    // In a cluster, keys of one command must be on one server.
    return isCluster(this.#redis)
      ? Promise.all(keys.map((key) => this.#redis.get(key)))
      : this.#redis.mget(keys)
  }

  /** Notes what is known of a session that is in use, and ends those that are too many by it. */
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
   * Forgets the sessions of a user that have ended, and ends those that are too many, which are the ones used
   * longest ago. Whoever starts one looks after that, so however many start at once, the last to look sees
   * all of them.
   * @returns those that are left, the last used first
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
