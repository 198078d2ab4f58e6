import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import module from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { loadConfig } from '../src/config.ts'
import { startEngines } from '../src/embedded/engines.ts'

// `npm test [-- arguments for tap]`: one PostgreSQL and one Redis for the whole run, those of POSTGRES_HOST
// and REDIS_HOST where they are set, else the embedded ones. Each test makes a database of its own.
const dataDir = mkdtempSync(join(tmpdir(), 'chat-test-'))
const config = loadConfig({ ...process.env, DATA_DIR: dataDir })
const engines = await startEngines(config, pino({ base: null, timestamp: false }))
const settings = { ...config, ...engines.settings }
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
    ...Object.fromEntries(engineVariables.map((name) => [name, `${settings[name] ?? ''}`]))
  }
})
process.on('SIGINT', () => {}) // Ctrl-C reaches tap as well, and this process ends after it.
const [code] = await once(tap, 'exit')
await engines.stop()
rmSync(dataDir, { recursive: true })
process.exit(code ?? 1)
