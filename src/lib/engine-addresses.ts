import { isIPv6 } from 'node:net'
import { join } from 'node:path'
import { parse, toClientConfig } from 'pg-connection-string'
import type { ClientConfig } from 'pg'
import type { Config } from '../config.ts'
import { StartError } from './start-error.ts'
import { splitList } from './text.ts'

/** Where an engine listens: on a host and port, or on a Unix domain socket. */
export type Address = { host: string; port: number } | { path: string }

/** A parsed PostgreSQL URL, as options of `pg`. `host` may be the directory of a Unix socket. */
export type PostgresTarget = ClientConfig & { host: string; port: number }

/**
 * How to connect to a single Redis server, as options of `ioredis`: a host and port, or the socket at `path`.
 */
export interface RedisTarget {
  host?: string
  port?: number
  path?: string
  username?: string
  password?: string
  db?: number
  /** 4 or 6: look up only addresses of this family. */
  family?: number
  tls?: object
}

/** Formats an address for logs and error messages. */
export function formatAddress(address: Address): string {
  if ('path' in address) return address.path
  return `${isIPv6(address.host) ? `[${address.host}]` : address.host}:${address.port}`
}

/** Strips the brackets that a URL puts around an IPv6 address. */
export const withoutBrackets = (host: string) => host.replace(/^\[(.*)\]$/, '$1')

function toPort(text: string | null | undefined, usual: number): number {
  const port = text ? Number(text) : usual
  if (!Number.isInteger(port) || port < 1 || port > 65535) throw new RangeError('There is no such port.')
  return port
}

const SSL_MODES = ['disable', 'allow', 'prefer', 'require', 'verify-ca', 'verify-full', 'no-verify']

/**
 * Makes every mode with TLS `verify-full`. node-postgres treats them so already, but prints a warning that
 * this will change. Whoever sets `uselibpqcompat` has chosen the weaker modes of libpq.
 */
const withStrictMode = (url: string) =>
  /[?&]uselibpqcompat=true\b/.test(url)
    ? url
    : url.replace(/([?&]sslmode=)(?:allow|prefer|require|verify-ca)(?=[&#]|$)/g, '$1verify-full')

/**
 * Parses a URL. The syntax is that of libpq, but a certificate is verified in each `sslmode` with TLS, except
 * in `no-verify`, which libpq does not have:
 * https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-URIS
 * @throws {StartError} if it names a certificate that cannot be read, or a mode that does not exist
 * @throws {Error} if it is not a valid PostgreSQL URL
 */
export function parsePostgresUrl(text: string): PostgresTarget {
  if (!/^postgres(ql)?:\/\//i.test(text)) throw new Error('It is not a URL of PostgreSQL.')
  let parsed: ReturnType<typeof parse>
  try {
    parsed = parse(withStrictMode(text))
  } catch (error) {
    if (error instanceof Error && 'syscall' in error) {
      throw new StartError(`POSTGRES_URL names a file that cannot be read: ${error.message}`, {
        cause: error
      })
    }
    throw error
  }
  if (!parsed.host) throw new Error('It has no host.')
  // pg would connect without TLS.
  const { sslmode, ssl } = parsed
  if (sslmode !== undefined && !SSL_MODES.includes(String(sslmode))) {
    throw new StartError(
      `the sslmode of POSTGRES_URL must be one of ${SSL_MODES.join(', ')}, not ${JSON.stringify(sslmode)}`
    )
  }
  if (typeof ssl === 'string' && ssl !== 'false') {
    throw new StartError(`ssl in POSTGRES_URL must be true or false, not ${JSON.stringify(ssl)}`)
  }
  return {
    ...toClientConfig({ ...parsed, port: null }),
    host: withoutBrackets(parsed.host),
    port: toPort(parsed.port, 5432)
  }
}

/**
 * Parses a Redis URL: https://www.iana.org/assignments/uri-schemes/prov/redis
 * @throws {Error} if it is not valid
 */
export function parseRedisUrl(text: string): RedisTarget & { host: string; port: number } {
  const { protocol, username, password, hostname, port, pathname, searchParams } = new URL(text)
  if (protocol !== 'redis:' && protocol !== 'rediss:') throw new Error('It is not a URL of Redis.')
  if (hostname === '') throw new Error('It has no host.')
  const db = pathname.slice(1) || searchParams.get('db')
  if (db && !/^\d{1,7}$/.test(db)) throw new RangeError('There is no such database.')
  const family = searchParams.get('family')
  if (family && !/^[046]$/.test(family)) throw new RangeError('There is no such family of addresses.')
  return {
    host: withoutBrackets(hostname),
    port: toPort(port, 6379),
    ...(username && { username: decodeURIComponent(username) }),
    ...(password && { password: decodeURIComponent(password) }),
    ...(db && { db: Number(db) }),
    ...(family && { family: Number(family) }),
    ...(protocol === 'rediss:' && { tls: {} })
  }
}

/** Parses a comma-separated list of `host:port`. @throws {Error} if an entry is not valid */
export function parseNodes(text: string): { host: string; port: number }[] {
  return splitList(text).map((entry) => {
    if (!/^[^/@]+:\d+$/.test(entry)) throw new Error('It is not a host and a port.')
    const { host, port } = parseRedisUrl(`redis://${entry}`)
    return { host, port }
  })
}

/**
 * How to connect to PostgreSQL. The other variables fill in what `POSTGRES_URL` leaves out, except the port.
 */
export function postgresTarget({
  POSTGRES_URL: url,
  POSTGRES_HOST: host = '',
  POSTGRES_PORT: port,
  POSTGRES_DB: database,
  POSTGRES_USER: user,
  POSTGRES_PASSWORD: password
}: Config): PostgresTarget {
  if (url === undefined) return { host: withoutBrackets(host), port, database, user, password }
  const target = parsePostgresUrl(url)
  return {
    ...target,
    database: target.database || database,
    user: target.user || user,
    password: target.password || password
  }
}

export function postgresAddress(config: Config): Address {
  const { host, port } = postgresTarget(config)
  return host.startsWith('/') ? { path: join(host, `.s.PGSQL.${port}`) } : { host, port }
}

/** How to connect to Redis when neither Sentinels nor a cluster is configured. */
export function redisTarget({
  REDIS_URL: url,
  REDIS_HOST: host = '',
  REDIS_PORT: port,
  REDIS_DB: db,
  REDIS_PASSWORD: password
}: Config): RedisTarget {
  if (url !== undefined) return parseRedisUrl(url)
  const at = host.startsWith('/') ? { path: host } : { host: withoutBrackets(host), port }
  return { ...at, db, ...(password !== undefined && { password }) }
}

/** The addresses of Redis. One that answers is enough. */
export function redisAddresses(config: Config): Address[] {
  const nodes = config.REDIS_CLUSTER_NODES ?? config.REDIS_SENTINELS
  if (nodes !== undefined) return parseNodes(nodes)
  const { path, host = '', port = 6379 } = redisTarget(config)
  return [path === undefined ? { host, port } : { path }]
}
