import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import module from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { pino } from 'pino'
import { loadConfig } from '../src/config.ts'
import { startEngines } from '../src/embedded/engines.ts'
import { connectionOptions, migrateWhenReady, NO_LIMITS } from '../src/plugins/postgres.ts'

// `npm test [-- arguments for tap]`: one PostgreSQL and one Redis for the whole run, those of POSTGRES_HOST
// and REDIS_HOST where they are set, else the embedded ones. Each test makes a database of its own.
const dataDir = mkdtempSync(join(tmpdir(), 'chat-test-'))
const config = loadConfig({ ...process.env, DATA_DIR: dataDir })
const engines = await startEngines(config, pino({ base: null, timestamp: false }))
const settings = { ...config, ...engines.settings }

// Most tests copy a migrated database, because migrating an empty one takes longer.
const template = `test_template_${randomBytes(8).toString('hex')}`
const sql = async (statement: string) => {
  const client = new pg.Client({ ...connectionOptions(settings, NO_LIMITS), connectionTimeoutMillis: 0 })
  await client.connect()
  await client.query(statement).finally(() => client.end())
}
await sql(`create database ${template} template template0`)
await migrateWhenReady({ ...settings, POSTGRES_DB: template, MIGRATE: 'on' }, pino({ level: 'silent' }))
// A database cannot be copied while somebody is connected to it.
await sql(`alter database ${template} allow_connections false`)

const engineVariables = [
  'POSTGRES_HOST',
  'POSTGRES_PORT',
  'POSTGRES_DB',
  'POSTGRES_USER',
  'POSTGRES_PASSWORD',
  'REDIS_HOST',
  'REDIS_PORT',
  'REDIS_PASSWORD',
  'REDIS_DB'
] as const

// Node 20 cannot strip types. Starting a test file takes 1 s of CPU with tsx, and 3 s with tap's own loader,
// which loads the TypeScript compiler twice. tap omits its loader as on versions that strip types themselves.
const hasTypes = 'stripTypeScriptTypes' in module
const withTypes = [
  `--import=data:text/javascript,${encodeURIComponent("process.env.TAP_TYPE_STRIP_ONLY = '1'")}`,
  `--import=${import.meta.resolve('tsx/esm')}`
]
const nodeOptions = [process.env['NODE_OPTIONS'] ?? '', ...(hasTypes ? [] : withTypes)]

const tap = spawn('tap', process.argv.slice(2), {
  stdio: 'inherit',
  env: {
    ...process.env,
    NODE_OPTIONS: nodeOptions.join(' '),
    TEST_TEMPLATE: template,
    ...Object.fromEntries(engineVariables.map((name) => [name, `${settings[name] ?? ''}`]))
  }
})
process.on('SIGINT', () => {}) // Ctrl-C reaches tap as well, and this process ends after it.
const [code] = await once(tap, 'exit')
await sql(`drop database ${template}`)
await engines.stop()
rmSync(dataDir, { recursive: true })
process.exit(code ?? 1)
