import t from 'tap'
import { loadConfig } from '../src/config.ts'

t.test('an empty environment gives the documented defaults', async (t) => {
  const defaults = {
    HTTP_PORT: 8080,
    POSTGRES_PORT: 5432,
    POSTGRES_DB: 'chat',
    POSTGRES_USER: 'chat',
    POSTGRES_PASSWORD: 'chat',
    POSTGRES_POOL: 10,
    REDIS_PORT: 6379,
    REDIS_DB: 0,
    REDIS_SENTINEL_NAME: 'mymaster',
    LOG_LEVEL: 'info',
    LOG_REQUESTS: 'changes',
    MIGRATE: 'on',
    BOOT_TIMEOUT: 30,
    BCRYPT_COST: 10,
    PASSWORD_MIN_LENGTH: 8,
    RATE_LIMIT: 'on',
    MAX_CONNECTIONS: 20_000,
    MAX_EVENT_LOOP_DELAY: 500,
    KEEP_ALIVE_TIMEOUT: 72,
    SHUTDOWN_DELAY: 0,
    MAX_STREAMS: 10_000,
    MAX_STREAMS_PER_ADDRESS: 2000,
    MAX_LONG_POLLS: 10_000,
    MAX_LONG_POLLS_PER_ADDRESS: 2000,
    EVENT_RETENTION_HOURS: 72,
    SEARCH_LANGUAGES: 'english,russian',
    WEB_CLIENT: 'on',
    CACHE_PAGES: 'off',
    DATA_DIR: '.data'
  }
  t.strictSame(loadConfig({}), defaults)
  t.strictSame(
    loadConfig({ HTTP_PORT: '', POSTGRES_HOST: '', REDIS_PASSWORD: '', LOG_LEVEL: '', OTHER: 'x' }),
    defaults,
    'empty means unset'
  )
})

t.test('values that are set are used as they are', async (t) => {
  const set = {
    HTTP_PORT: '9000',
    POSTGRES_HOST: 'db',
    POSTGRES_PASSWORD: ' 007 ',
    REDIS_PASSWORD: '12',
    REDIS_DB: '3',
    LOG_LEVEL: 'debug',
    MIGRATE: 'off'
  }
  t.match(loadConfig(set), { ...set, HTTP_PORT: 9000, REDIS_DB: 3 })
  for (const TRUST_PROXY of [
    '10.0.0.1',
    ' 127.0.0.1 ,172.16.0.0/12,::1, fd00::/8',
    '192.0.2.0/32',
    '2001:db8::/128'
  ]) {
    t.match(loadConfig({ TRUST_PROXY }), { TRUST_PROXY })
  }
  const addresses = {
    POSTGRES_URL: 'postgresql://chat:p%40ss@db:5432/chat?sslmode=require',
    REDIS_URL: 'rediss://:secret@redis:6380/2',
    REDIS_SENTINELS: 'one:26379, [fd00::2]:26379',
    REDIS_CLUSTER_NODES: '10.0.0.1:7000'
  }
  t.match(loadConfig(addresses), addresses)
  for (const REDIS_HOST of [
    'redis',
    'redis_1.example.',
    '::1',
    '[fe80::1%eth0]',
    '/run/of @redis/redis.sock'
  ]) {
    t.match(loadConfig({ REDIS_HOST }), { REDIS_HOST })
  }
  t.match(
    loadConfig({ LOG_LEVEL: 'DEBUG', MIGRATE: 'Off' }),
    { LOG_LEVEL: 'debug', MIGRATE: 'off' },
    'words in any case'
  )
})

t.test('an invalid value fails with one line that names the variable and its valid values', async (t) => {
  for (const [name, value, message] of [
    ['HTTP_PORT', 'http', 'HTTP_PORT must be a whole number from 0 to 65535, not "http"'],
    ['HTTP_PORT', '65536', 'HTTP_PORT must be a whole number from 0 to 65535, not "65536"'],
    ['HTTP_PORT', '-1', 'HTTP_PORT must be a whole number from 0 to 65535, not "-1"'],
    ['HTTP_PORT', '80.5', 'HTTP_PORT must be a whole number from 0 to 65535, not "80.5"'],
    ['HTTP_PORT', '1e3', 'HTTP_PORT must be a whole number from 0 to 65535, not "1e3"'],
    ['HTTP_PORT', ' 80\n', 'HTTP_PORT must be a whole number from 0 to 65535, not " 80\\n"'],
    ['POSTGRES_PORT', '0', 'POSTGRES_PORT must be a whole number from 1 to 65535, not "0"'],
    [
      'REDIS_PORT',
      'tcp://10.0.0.1:6379',
      'REDIS_PORT must be a whole number from 1 to 65535, not "tcp://10.0.0.1:6379"'
    ],
    [
      'REDIS_DB',
      '99999999999999999999',
      'REDIS_DB must be a whole number from 0 to 1000000, not "99999999999999999999"'
    ],
    [
      'LOG_LEVEL',
      'loud',
      'LOG_LEVEL must be one of info, trace, debug, warn, error, fatal, silent, not "loud"'
    ],
    ['MIGRATE', 'yes', 'MIGRATE must be one of on, own, off, only, not "yes"'],
    [
      'SEARCH_LANGUAGES',
      'english,off',
      'SEARCH_LANGUAGES must be languages such as english,russian, or simple, or off, not "english,off"'
    ],
    ['RETENTION_DAYS', '0', 'RETENTION_DAYS must be a whole number from 1 to 36500, not "0"'],
    [
      'CORS_ORIGIN',
      '*',
      'CORS_ORIGIN must be origins such as https://chat.example, with commas between, not "*"'
    ],
    [
      'CORS_ORIGIN',
      'https://chat.example/',
      'CORS_ORIGIN must be origins such as https://chat.example, with commas between, not "https://chat.example/"'
    ],
    [
      'POSTGRES_URL',
      'mysql://chat:secret@db/chat',
      'POSTGRES_URL must be postgres://user:password@host:port/database, and is not'
    ],
    ...['bogus', 'Require', ''].map(
      (mode) =>
        [
          'POSTGRES_URL',
          `postgres://chat:secret@db/chat?sslmode=${mode}`,
          'the sslmode of POSTGRES_URL must be one of disable, allow, prefer, require, verify-ca, verify-full, ' +
            `no-verify, not "${mode}"`
        ] as const
    ),
    [
      'POSTGRES_URL',
      'postgres://chat:secret@db/chat?ssl=yes',
      'ssl in POSTGRES_URL must be true or false, not "yes"'
    ],
    [
      'REDIS_URL',
      'redis:6379',
      'REDIS_URL must be redis://user:password@host:port/db (rediss:// for TLS), and is not'
    ],
    ...['redis', 'redis:6379,', 'redis:port', 'redis://redis:6379', 'user@redis:6379', ':6379'].map(
      (value) =>
        [
          'REDIS_SENTINELS',
          value,
          `REDIS_SENTINELS must be host:port, with commas between, not "${value}"`
        ] as const
    ),
    ...['redis://:secret@redis:6379', ':secret@redis:6379'].map(
      (value) =>
        [
          'REDIS_CLUSTER_NODES',
          value,
          'REDIS_CLUSTER_NODES must be host:port, with commas between, and is not'
        ] as const
    ),
    ...['postgres://chat:secret@db:5432/chat', 'chat:secret@db'].map(
      (value) =>
        [
          'POSTGRES_HOST',
          value,
          'POSTGRES_HOST must be a host name, an address or the path of a Unix socket, and is not'
        ] as const
    ),
    [
      'REDIS_HOST',
      'redis\n',
      'REDIS_HOST must be a host name, an address or the path of a Unix socket, not "redis\\n"'
    ],
    [
      'OTEL_EXPORTER_OTLP_ENDPOINT',
      'otlp://chat:secret@collector:4318',
      'OTEL_EXPORTER_OTLP_ENDPOINT must be a URL such as http://collector:4318, and is not'
    ],
    [
      'OTEL_EXPORTER_OTLP_ENDPOINT',
      'collector:4318',
      'OTEL_EXPORTER_OTLP_ENDPOINT must be a URL such as http://collector:4318, not "collector:4318"'
    ],
    ['BCRYPT_COST', '3', 'BCRYPT_COST must be a whole number from 4 to 16, not "3"'],
    ['PASSWORD_MIN_LENGTH', '73', 'PASSWORD_MIN_LENGTH must be a whole number from 1 to 72, not "73"'],
    ['RATE_LIMIT', 'false', 'RATE_LIMIT must be one of on, off, not "false"'],
    ...[
      'true',
      '1',
      '10.0.0.0/0',
      '10.0.0.0/33',
      '::/129',
      '10.0.0',
      '10.0.0.1,',
      '10.0.0.1 10.0.0.2',
      '10.0.0.0/8/8',
      'proxy.local',
      '*'
    ].map(
      (value) =>
        [
          'TRUST_PROXY',
          value,
          `TRUST_PROXY must be addresses or networks such as 10.0.0.0/8, with commas between, not "${value}"`
        ] as const
    )
  ] as const) {
    t.throws(() => loadConfig({ [name]: value }), { message }, `${name}=${value}`)
  }
})
