import swagger from '@fastify/swagger'
import { Type } from '@sinclair/typebox'
import fp from 'fastify-plugin'
import { http } from '../lib/node-http.ts'
import { version } from '../lib/version.ts'
import { keywords } from './validation.ts'

interface Answer {
  $ref?: string
  headers?: object
  content?: Record<string, { examples?: Record<string, unknown> }>
}
/** An operation as `@fastify/swagger` generates it. */
interface Operation {
  operationId: string
  responses: Record<string, Answer>
  parameters?: { in: string; name: string; required?: boolean; schema: object }[]
}

/** A document as `@fastify/swagger` generates it; its types also allow references and Swagger 2. */
interface Document {
  paths: Record<string, Record<string, Operation>>
  components: object
}

/** The tags, in the order in which documentation pages show them. */
const tags = [
  { name: 'messages', description: 'Read, post, edit and delete messages.' },
  { name: 'events', description: 'Follow the room live.' },
  { name: 'room', description: 'Read and change the settings of the room.' },
  { name: 'moderation', description: 'Report messages, restrict users, give roles, and see who did what.' },
  { name: 'accounts', description: 'Register, log in, change your password.' },
  { name: 'sessions', description: 'List and end your sessions.' },
  { name: 'tokens', description: 'Create and revoke API tokens for bots.' },
  { name: 'health', description: 'Probes and metrics, for operators.' },
  { name: 'documentation', description: 'The API reference.' }
]

const codesOf = (answer: Answer) => Object.keys(answer.content?.['application/json']?.examples ?? {})

/** Refused before a rate limit is consulted. */
const UNCOUNTED = ['408', '417', '431']

const headersOf = (status: string, isLimited: boolean) => ({
  'X-Request-Id': {
    schema: Type.String(),
    description: 'Taken from the request if it is short and plain, otherwise generated. Also in the log.'
  },
  ...(status === '401' && { 'WWW-Authenticate': { schema: Type.Literal('Bearer') } }),
  ...((status === '429' || status === '503') && {
    'Retry-After': { schema: Type.Integer(), description: 'Seconds.' }
  }),
  ...(isLimited && {
    RateLimit: {
      schema: Type.String(),
      description:
        'The state of each limit: `r` is how many requests are left, `t` the seconds until there are more.'
    },
    'RateLimit-Policy': { schema: Type.String(), description: 'Each limit: `q` requests in `w` seconds.' }
  })
})

/** Restores the usual spelling of a request header, which Node gives in lower case. */
const headerName = (name: string) =>
  name === 'last-event-id' ? 'Last-Event-ID' : name.replace(/\b[a-z]/g, (letter) => letter.toUpperCase())

/**
 * Adds what follows from the schemas of a route: the headers of its responses, the usual spelling of request
 * headers, and that parameters with a default are optional.
 */
function complete({ responses, parameters = [] }: Operation): void {
  for (const parameter of parameters) {
    if ('default' in parameter.schema) parameter.required = false
    if (parameter.in === 'header') parameter.name = headerName(parameter.name)
  }
  const isLimited = codesOf(responses['429'] ?? {}).includes('rate_limited')
  for (const [status, answer] of Object.entries(responses)) {
    const headers = headersOf(status, isLimited && !UNCOUNTED.includes(status))
    answer.headers = { ...headers, ...answer.headers }
  }
}

const pascal = (text: string) => text.replace(/(?:^|[ _-])(\w)/g, (_, letter: string) => letter.toUpperCase())

/** An error response, and the operations that share it. */
interface SharedError {
  status: string
  answer: Answer
  operations: Operation[]
}

/**
 * The possible names of an error response, best first: its code if it has only one of its own, otherwise its
 * status; then the same with something that distinguishes it from others of that name.
 */
function namesOf({ status, answer, operations: [first] }: SharedError): string[] {
  const codes = codesOf(answer)
  const ownCodes = codes.filter((code) => code !== 'invalid_http' && code !== 'not_found')
  const [code = codes[0] ?? ''] = ownCodes
  const name = pascal(ownCodes.length > 1 ? (http.STATUS_CODES[status] ?? status) : code)
  const isLimited = 'RateLimit' in (answer.headers ?? {})
  const withLimit = isLimited && status !== '429' ? `${name}WithRateLimit` : name
  return [name, withLimit, `${pascal(first?.operationId ?? '')}${name}`]
}

/** Moves the error responses of all operations to named components, because many operations share them. */
function shareErrors(operations: Operation[]): Record<string, Answer> {
  const shared = new Map<string, SharedError>()
  for (const operation of operations) {
    for (const [status, answer] of Object.entries(operation.responses)) {
      if (Number(status) < 400) continue
      const key = JSON.stringify([status, codesOf(answer), Object.keys(answer.headers ?? {})])
      const error = shared.get(key) ?? { status, answer, operations: [] }
      error.operations.push(operation)
      shared.set(key, error)
    }
  }
  const components: Record<string, Answer> = {}
  // The ones that most operations share get the shortest names.
  const errors = [...shared.values()].sort((a, b) => b.operations.length - a.operations.length)
  for (const error of errors) {
    const name = namesOf(error).find((name) => !(name in components))
    if (name === undefined) throw new Error(`no name for ${codesOf(error.answer).join(', ')}`)
    components[name] = error.answer
    for (const { responses } of error.operations) {
      responses[error.status] = { $ref: `#/components/responses/${name}` }
    }
  }
  return components
}

/**
 * Copies a part of the document without the custom keywords, and moves each schema with a title to
 * `schemas`.
 */
function tidy(part: unknown, schemas: Record<string, object>): unknown {
  if (Array.isArray(part)) return part.map((item) => tidy(item, schemas))
  if (typeof part !== 'object' || part === null) return part
  const copy = Object.fromEntries(
    Object.entries(part)
      .filter(([key]) => !keywords.some(({ keyword }) => keyword === key))
      .map(([key, value]) => [key, tidy(value, schemas)])
  )
  if (typeof copy['title'] !== 'string') return copy
  const { title, ...schema } = copy
  schemas[title] = { ...schemas[title], ...schema }
  return { $ref: `#/components/schemas/${title}` }
}

/** Completes the generated document, and moves what operations share to its components. */
function finish({ paths, components, ...rest }: Document): object {
  const operations = Object.values(paths).flatMap((path) => Object.values(path))
  for (const operation of operations) complete(operation)
  const errors = shareErrors(operations)
  const schemas = {}
  return {
    ...rest,
    paths: tidy(paths, schemas),
    components: { ...components, responses: tidy(errors, schemas), schemas }
  }
}

/**
 * Generates the OpenAPI document from the schemas of all routes that are registered later, when
 * `app.swagger()` is called.
 */
export default fp(
  async (app) => {
    await app.register(swagger, {
      convertConstToEnum: false,
      transformObject: (generated) => finish((generated as { openapiObject: Document }).openapiObject),
      openapi: {
        openapi: '3.1.0',
        info: {
          title: 'chat-backend',
          version,
          description: 'HTTP API of a public chat room: ordered, durable messages, and a live event stream.',
          license: { name: 'MIT', identifier: 'MIT' }
        },
        servers: [{ url: '/', description: 'The server that sent this document.' }],
        tags,
        components: {
          securitySchemes: {
            token: {
              type: 'http',
              scheme: 'bearer',
              description:
                'The `token` from a registration or a login. API tokens also work, except for routes that ' +
                'list `session_required` among their errors.'
            }
          }
        }
      }
    })
  },
  { name: 'openapi' }
)
