import { Writable } from 'node:stream'
import type { FastifyInstance } from 'fastify'
import { pino } from 'pino'
import type { Test } from 'tap'
import { buildApp } from '../../src/app.ts'
import type { Config } from '../../src/config.ts'
import { config, createMigratedDatabase, ownUserIds } from './database.ts'
import { waitUntil } from './raw.ts'

export interface Answer {
  status: number
  headers: Headers
  // What came over the wire: tests look into it freely.
  body: any // eslint-disable-line @typescript-eslint/no-explicit-any
}

/** Sends a request until the service is not too busy for it. @throws {Error} after half a minute */
export async function persist(send: () => Promise<Answer>): Promise<Answer> {
  let answer!: Answer
  await waitUntil('the service is not too busy', async () => {
    answer = await send()
    return answer.status !== 503
  })
  return answer
}

export interface Call {
  body?: unknown
  raw?: string
  token?: string
  headers?: Record<string, string>
}

/**
 * The service on a port of its own and a database of its own, built as in production but with cheap passwords
 * and no rate limits.
 */
export interface Service {
  app: FastifyInstance
  url: string
  database: string
  /** What it logged, one parsed line each. */
  logs: Record<string, unknown>[]
  call: (method: string, path: string, call?: Call) => Promise<Answer>
  /** Registers a user with a random nickname. */
  register: () => Promise<{ userId: number; nickname: string; token: string }>
  /** Posts a message and resolves to it. */
  post: (token: string, text: string) => Promise<{ id: number }>
}

/** Starts the service without background queries, so that only requests reach PostgreSQL. */
export async function startQuietService(t: Test, overrides: Partial<Config> = {}): Promise<Service> {
  const service = await startService(t, { SEARCH_LANGUAGES: 'off', ...overrides })
  const { watch } = service.app.room
  watch.stop()
  await watch.check() // A look may be under way.
  return service
}

export async function startService(t: Test, overrides: Partial<Config> = {}): Promise<Service> {
  const database = overrides.POSTGRES_DB ?? (await createMigratedDatabase(t))
  const logs: Record<string, unknown>[] = []
  const sink = new Writable({
    write: (line, _encoding, done) => {
      logs.push(JSON.parse(`${line}`))
      done()
    }
  })
  const app = buildApp(
    {
      ...config,
      BCRYPT_COST: 4,
      RATE_LIMIT: 'off',
      MAX_EVENT_LOOP_DELAY: 60_000,
      ...overrides,
      POSTGRES_DB: database
    },
    pino({ level: 'info' }, sink)
  )
  t.teardown(() => app.close())
  const url = await app.listen({ host: '127.0.0.1', port: 0 })
  await ownUserIds(database)

  const call = async (
    method: string,
    path: string,
    { body, raw, token, headers }: Call = {}
  ): Promise<Answer> => {
    const payload = raw ?? (body === undefined ? undefined : JSON.stringify(body))
    const response = await fetch(`${url}${path}`, {
      method,
      headers: {
        ...(payload !== undefined && { 'content-type': 'application/json' }),
        ...(token !== undefined && { authorization: `Bearer ${token}` }),
        ...headers
      },
      ...(payload !== undefined && { body: payload })
    })
    const text = await response.text()
    const isJson = response.headers.get('content-type')?.startsWith('application/json')
    return {
      status: response.status,
      headers: response.headers,
      body: isJson ? JSON.parse(text) : text || undefined
    }
  }
  let users = 0
  const register = async () => {
    const { body } = await call('POST', '/api/register', {
      body: { nickname: `user ${++users}`, password: 'correct horse' }
    })
    return body
  }
  const post = async (token: string, text: string) =>
    (await call('POST', '/api/messages', { token, body: { text } })).body
  return { app, url, database, logs, call, register, post }
}
