import { randomBytes } from 'node:crypto'
import { cpus } from 'node:os'
import { parseArgs } from 'node:util'
import type autocannon from 'autocannon'
import { isExternal } from '../../src/config.ts'
import { runCommand, whole } from './command.ts'
import { fire } from './fire.ts'
import { post, postMessage, type Request, type Room, scenarios } from './scenarios.ts'
import { withDataDir, withService } from './service.ts'

// `npm run load`: what the service bears. It adds a user, 200 messages, and what `post` and `mixed` send, to
// the room that it meets: an empty one of its own, unless --url or the environment lead to another.

const SEEDED_MESSAGES = 200
// A few passwords at a time keep every core busy; more connections would only measure how long they queue.
const LOGIN_CONNECTIONS = 4
const WARM_UP_SECONDS = 1

const names = Object.keys(scenarios)
const USAGE = `npm run load -- [--url http://127.0.0.1:8080] [--seconds 5] [--connections 16] [${names.join(' | ')}] ...`

interface Arguments {
  url: string | undefined
  seconds: number
  connections: number
  chosen: string[]
}

function readArguments(): Arguments {
  const {
    values: { url, seconds, connections },
    positionals
  } = parseArgs({
    allowPositionals: true,
    options: {
      url: { type: 'string' },
      seconds: { type: 'string', default: '5' },
      connections: { type: 'string', default: '16' }
    }
  })
  const unknown = positionals.find((name) => !names.includes(name))
  if (unknown !== undefined) throw new Error(`There is no scenario ${JSON.stringify(unknown)}.`)
  const target = url !== undefined && URL.canParse(url) ? new URL(url) : undefined
  // On somebody else's machine this would be an attack.
  if (
    url !== undefined &&
    !/^http:\/\/(localhost|127\.\d+\.\d+\.\d+|\[::1\])(:\d+)?\/$/.test(target?.href ?? '')
  ) {
    throw new Error(`--url must be http://host:port with a loopback host, not ${JSON.stringify(url)}.`)
  }
  return {
    url: target?.origin,
    seconds: whole('seconds', seconds, 600),
    connections: whole('connections', connections, 1000),
    chosen: positionals.length > 0 ? positionals : names
  }
}

async function call<Answer>(url: string, { path, ...request }: Request): Promise<Answer> {
  const response = await fetch(`${url}${path}`, { ...request, signal: AbortSignal.timeout(10_000) }).catch(
    ({ message, cause }: Error & { cause?: NodeJS.ErrnoException }) => {
      throw new Error(`${url}${path} gave no answer: ${cause?.message || (cause?.code ?? message)}`)
    }
  )
  const text = await response.text()
  if (!response.ok) throw new Error(`${url}${path} answered ${response.status}: ${text.slice(0, 200)}`)
  return JSON.parse(text) as Answer
}

async function seed(url: string, signal: AbortSignal): Promise<Omit<Room, 'newest'>> {
  const credentials = {
    nickname: `load ${randomBytes(8).toString('hex')}`,
    password: randomBytes(16).toString('hex')
  }
  const { token } = await call<{ token: string }>(url, post('/api/register', credentials))
  for (let i = 0; i < SEEDED_MESSAGES && !signal.aborted; i++) await call(url, postMessage(token))
  return { credentials, token }
}

const COLUMNS = ['scenario', 'connections', 'requests/s', '  p50 ms', '  p99 ms', 'non-2xx', 'errors']
const print = ([name, ...figures]: (string | number)[]) =>
  console.log(
    [
      `${name}`.padEnd(8),
      ...figures.map((figure, i) => `${figure}`.padStart(COLUMNS[i + 1]?.length ?? 0))
    ].join('  ')
  )

/**
 * Runs the scenarios one after the other. @returns whether each had answers, all of them 2xx, and no error
 */
async function load(
  url: string,
  about: string,
  { seconds, connections, chosen }: Arguments,
  signal: AbortSignal
): Promise<boolean> {
  const cores = cpus()
  console.log(
    `${cores.length} cores (${cores[0]?.model}), shared by load and service; Node ${process.versions.node}; ${about}`
  )
  const user = await seed(url, signal)
  print(COLUMNS)
  const complaints: string[] = []
  for (const name of chosen) {
    const [{ id: newest } = { id: 0 }] = await call<{ id: number }[]>(url, { path: '/api/messages?limit=1' })
    const options: autocannon.Options = {
      url,
      duration: seconds,
      connections: name === 'login' ? Math.min(connections, LOGIN_CONNECTIONS) : connections,
      ...scenarios[name]?.({ ...user, newest })
    }
    const failures = new Map<string, number>()
    // Or the first scenario would pay for code that is not compiled yet.
    await fire({ ...options, duration: WARM_UP_SECONDS }, failures, signal)
    const { result, errors, latencies } = await fire(options, failures, signal)
    const { requests, duration, connections: opened, non2xx } = result
    const ms = (percentile: number) =>
      requests.total > 0 ? (latencies.percentile(percentile) / 1000).toFixed(2) : '-'
    print([name, opened, Math.round(requests.total / duration), ms(50), ms(99), non2xx, errors])
    for (const [failure, times] of failures) complaints.push(`${name}: ${failure} (${times})`)
  }
  if (complaints.length > 0) console.error(complaints.join('\n'))
  return complaints.length === 0
}

const where = (engine: 'postgres' | 'redis') => (isExternal(engine, process.env) ? 'external' : 'embedded')
const engines = `PostgreSQL ${where('postgres')}, Redis ${where('redis')}`

await runCommand(USAGE, readArguments, async (given, signal) => {
  if (given.url !== undefined) {
    return load(given.url, `the service at ${given.url}, with whichever engines it has`, given, signal)
  }
  return withDataDir((DATA_DIR) =>
    withService({ ...process.env, DATA_DIR }, signal, ({ url, readyMs }) =>
      load(url, `${engines}, ready after ${(readyMs / 1000).toFixed(2)} s`, given, signal)
    )
  )
})
