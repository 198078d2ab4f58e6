import { isIP } from 'node:net'
import { FormatRegistry, type Static, type TSchema, Type } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import { parseNodes, parsePostgresUrl, parseRedisUrl } from './lib/engine-addresses.ts'
import { parseLanguages } from './lib/languages.ts'
import { StartError } from './lib/start-error.ts'
import { splitList } from './lib/text.ts'

const Whole = (minimum: number, maximum: number, value: number) =>
  Type.Integer({ minimum, maximum, default: value })
const OneOf = <Choice extends string>(value: Choice, ...others: Choice[]) =>
  Type.Unsafe<Choice>(Type.String({ enum: [value, ...others], default: value }))

// Such as `10.0.0.1, 172.16.0.0/12, fd00::/8`. Not `/0`, with which every client could choose its own
// address.
FormatRegistry.Set('addresses', (text) =>
  splitList(text).every((entry) => {
    const [, address = '', bits] = /^([^/]*)(?:\/([1-9]\d{0,2}))?$/.exec(entry) ?? []
    return isIP(address) !== 0 && Number(bits ?? 1) <= (isIP(address) === 4 ? 32 : 128)
  })
)

const isUrl = (text: string) =>
  URL.canParse(text) && /^https?:$/.test(new URL(text).protocol) && new URL(text).hostname !== ''
/** A format that accepts whatever the parser accepts. */
const parsedBy = (parse: (text: string) => unknown) => (text: string) => {
  try {
    parse(text)
    return true
  } catch (error) {
    if (error instanceof StartError) throw error
    return false
  }
}
FormatRegistry.Set('postgres-url', parsedBy(parsePostgresUrl))
FormatRegistry.Set('redis-url', parsedBy(parseRedisUrl))
FormatRegistry.Set('url', isUrl)
FormatRegistry.Set('origins', (text) =>
  splitList(text).every((entry) => isUrl(entry) && new URL(entry).origin === entry)
)
FormatRegistry.Set('languages', parsedBy(parseLanguages))
FormatRegistry.Set('nodes', parsedBy(parseNodes))
const Nodes = Type.String({ format: 'nodes', description: 'host:port, with commas between' })

// Not a whole URL, whose password would be in each message about the engine. Nor a name with a newline, as it
// is read from some files.
FormatRegistry.Set('host', (text) => text.startsWith('/') || /^[^\s/@]+$/.test(text))
const Host = Type.String({
  format: 'host',
  description: 'a host name, an address or the path of a Unix socket'
})

/**
 * The environment variables with their types and defaults. An empty variable counts as unset.
 */
export const Config = Type.Object({
  // Unset: all addresses, or loopback if both engines are embedded.
  HTTP_HOST: Type.Optional(Type.String()),
  HTTP_PORT: Whole(0, 65535, 8080), // 0: any free port
  POSTGRES_HOST: Type.Optional(Host), // unset: the embedded PostgreSQL
  POSTGRES_URL: Type.Optional(
    Type.String({ format: 'postgres-url', description: 'postgres://user:password@host:port/database' })
  ), // before the others
  POSTGRES_PORT: Whole(1, 65535, 5432),
  POSTGRES_DB: Type.String({ default: 'chat' }),
  POSTGRES_USER: Type.String({ default: 'chat' }),
  POSTGRES_PASSWORD: Type.String({ default: 'chat' }),
  POSTGRES_POOL: Whole(1, 1000, 10), // connections, per process
  REDIS_HOST: Type.Optional(Host), // unset: the embedded session store
  REDIS_PORT: Whole(1, 65535, 6379),
  REDIS_PASSWORD: Type.Optional(Type.String()),
  REDIS_DB: Whole(0, 1_000_000, 0),
  REDIS_URL: Type.Optional(
    Type.String({
      format: 'redis-url',
      description: 'redis://user:password@host:port/db (rediss:// for TLS)'
    })
  ),
  REDIS_SENTINELS: Type.Optional(Nodes),
  REDIS_SENTINEL_NAME: Type.String({ default: 'mymaster' }),
  REDIS_SENTINEL_PASSWORD: Type.Optional(Type.String()),
  REDIS_CLUSTER_NODES: Type.Optional(Nodes), // not all of them are needed
  LOG_LEVEL: OneOf('info', 'trace', 'debug', 'warn', 'error', 'fatal', 'silent'),
  LOG_REQUESTS: OneOf('changes', 'all', 'none'), // changes: writes, errors and slow requests
  MIGRATE: OneOf('on', 'own', 'off', 'only'), // own: all but Django's tables; only: then exit
  MIGRATE_GRANT_TO: Type.Optional(Type.String()), // a role of PostgreSQL
  BOOT_TIMEOUT: Whole(1, 3600, 30), // seconds, for each engine
  BCRYPT_COST: Whole(4, 16, 10),
  PASSWORD_MIN_LENGTH: Whole(1, 72, 8), // code points
  RATE_LIMIT: OneOf('on', 'off'),
  TRUST_PROXY: Type.Optional(
    Type.String({
      format: 'addresses',
      description: 'addresses or networks such as 10.0.0.0/8, with commas between'
    })
  ),
  CORS_ORIGIN: Type.Optional(
    Type.String({
      format: 'origins',
      description: 'origins such as https://chat.example, with commas between'
    })
  ),
  MAX_CONNECTIONS: Whole(1, 1_000_000, 20_000), // open at once, per process
  MAX_EVENT_LOOP_DELAY: Whole(10, 60_000, 500), // milliseconds, the mean over a second
  KEEP_ALIVE_TIMEOUT: Whole(1, 3600, 72), // seconds that a connection may be idle
  SHUTDOWN_DELAY: Whole(0, 20, 0), // seconds for load balancers to notice, after SIGTERM
  MAX_STREAMS: Whole(0, 1_000_000, 10_000), // open event streams, per process
  MAX_STREAMS_PER_ADDRESS: Whole(1, 1_000_000, 2000),
  MAX_LONG_POLLS: Whole(0, 1_000_000, 10_000), // requests that wait for a message, per process
  MAX_LONG_POLLS_PER_ADDRESS: Whole(1, 1_000_000, 2000),
  // Unset: messages are kept forever.
  RETENTION_DAYS: Type.Optional(Type.Integer({ minimum: 1, maximum: 36_500 })),
  EVENT_RETENTION_HOURS: Whole(1, 100_000, 72),
  SEARCH_LANGUAGES: Type.String({
    format: 'languages',
    default: 'english,russian',
    description: 'languages such as english,russian, or simple, or off'
  }),
  OTEL_EXPORTER_OTLP_ENDPOINT: Type.Optional(
    Type.String({ format: 'url', description: 'a URL such as http://collector:4318' })
  ), // unset: no traces
  WEB_CLIENT: OneOf('on', 'off'),
  CACHE_PAGES: OneOf('off', 'on'), // whether proxies may cache pages for a second
  DATA_DIR: Type.String({ default: '.data' })
})
export type Config = Static<typeof Config>

/** The variables that point to an external engine. If none is set, the engine is embedded. */
export const engineVariables = {
  postgres: ['POSTGRES_HOST', 'POSTGRES_URL'],
  redis: ['REDIS_HOST', 'REDIS_URL', 'REDIS_SENTINELS', 'REDIS_CLUSTER_NODES']
} as const
export const isExternal = (
  engine: keyof typeof engineVariables,
  settings: Partial<Record<keyof Config, unknown>>
) => engineVariables[engine].some((name) => settings[name])

/**
 * Reads the configuration from the environment.
 * @throws {StartError} that names the first invalid variable and its valid values
 */
export function loadConfig(env: NodeJS.ProcessEnv): Config {
  const config: Record<string, unknown> = {}
  for (const [name, schema] of Object.entries<TSchema>(Config.properties)) {
    const text = env[name]
    const number = schema.type === 'integer' && /^\d{1,15}$/.test(text ?? '') ? Number(text) : undefined
    const value = number ?? ((schema.enum ? text?.toLowerCase() : text) || schema.default)
    if (text && (!Value.Check(schema, value) || (schema.enum && !schema.enum.includes(value)))) {
      const legal = schema.enum
        ? `one of ${schema.enum.join(', ')}`
        : (schema.description ?? `a whole number from ${schema.minimum} to ${schema.maximum}`)
      const mayHoldSecret = name.endsWith('_URL') || /:.*@/s.test(text)
      const given = mayHoldSecret ? 'and is not' : `not ${JSON.stringify(text.slice(0, 80))}`
      throw new StartError(`${name} must be ${legal}, ${given}`)
    }
    if (value !== undefined) config[name] = value
  }
  return Value.Decode(Config, config)
}
