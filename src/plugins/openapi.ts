import { Type } from '@sinclair/typebox'
import Fastify, { type RouteOptions } from 'fastify'
import fp from 'fastify-plugin'
import { Event } from '../../schemas/events.ts'
import { version } from '../lib/version.ts'
import { keywords } from './validation.ts'

declare module 'fastify' {
  interface FastifyInstance {
    describe: () => Promise<object>
  }
}

interface Answer {
  $ref?: string
  headers?: object
  content?: Record<string, { examples?: Record<string, unknown> }>
}
/** What `@fastify/swagger` has made of a route. */
interface Operation {
  operationId: string
  responses: Record<string, Answer>
  parameters?: { required?: boolean; schema: object }[]
  security?: unknown
}

const headersOf = (status: string, isLimited: boolean) => ({
  'X-Request-Id': {
    schema: Type.String(),
    description: 'As it was sent, when it was short and plain, else a new one. The log has it, too.'
  },
  ...(status === '401' && { 'WWW-Authenticate': { schema: Type.Literal('Bearer') } }),
  ...((status === '429' || status === '503') && {
    'Retry-After': { schema: Type.Integer(), description: 'Seconds.' }
  }),
  ...(isLimited && {
    RateLimit: {
      schema: Type.String(),
      description:
        'Where the client stands with each limit: `r` is what is left, `t` the seconds until it is more.'
    },
    'RateLimit-Policy': { schema: Type.String(), description: 'Each limit: `q` in `w` seconds.' }
  })
})

/**
 * Adds what follows from the errors that a route declares: the headers of its answers, and whether it wants a
 * token. What has a default is always there for the handler, but no client has to send it. The errors move to
 * `errors`, because most of them are other routes' as well.
 */
function complete(operation: Operation, errors: Record<string, Answer>): void {
  const { operationId, responses, parameters = [] } = operation
  for (const parameter of parameters) if ('default' in parameter.schema) parameter.required = false
  if (responses['401']?.content?.['application/json']?.examples?.['authorization_missing']) {
    operation.security = [{ token: [] }]
  }
  const isLimited = responses['429']?.content?.['application/json']?.examples?.['rate_limited'] !== undefined
  for (const [status, answer] of Object.entries(responses)) {
    answer.headers = { ...headersOf(status, isLimited), ...answer.headers }
    if (Number(status) < 400) continue
    const codes = Object.keys(answer.content?.['application/json']?.examples ?? {})
    // What its schemas refuse is a route's own matter, and has many codes.
    const isOwn = status === '400' && codes.length > 3
    const name = [...(isOwn ? [operationId, 'refused'] : codes), ...(isLimited ? ['limited'] : [])].join('.')
    errors[name] = answer
    responses[status] = { $ref: `#/components/responses/${name}` }
  }
}

/**
 * Copies a part of the document without the keywords of this house, and moves each schema with a title to
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

/**
 * Decorates the instance with `describe()`, which makes an OpenAPI document of all routes that are registered
 * later, by their own schemas. No start waits for it, nor for the modules that it needs: they take a tenth of
 * a second, and another instance, which has the same routes and serves nobody.
 */
export default fp(
  async (app) => {
    const routes: RouteOptions[] = []
    app.addHook('onRoute', ({ method, url, schema }) => {
      if (schema && method !== 'HEAD') routes.push({ method, url, schema, handler: () => {} })
    })

    app.decorate('describe', async () => {
      const { default: swagger } = await import('@fastify/swagger')
      const described = Fastify({ exposeHeadRoutes: false })
        .setValidatorCompiler(() => () => true)
        .setSerializerCompiler(() => () => '')
      await described.register(swagger, {
        convertConstToEnum: false,
        openapi: {
          openapi: '3.1.0',
          info: { title: 'chat-backend', version, description: 'One shared chat room.' },
          servers: [{ url: '/', description: 'Whoever serves this document.' }],
          components: {
            securitySchemes: {
              token: {
                type: 'http',
                scheme: 'bearer',
                description: 'The `token` of a registration or a login.'
              }
            }
          }
        }
      })
      for (const route of routes) if (!route.schema?.hide) described.route(route)
      await described.ready()
      // The plugin's own types allow for references, which it does not make of these schemas.
      const document: object = described.swagger()
      const { paths, components, ...rest } = document as {
        paths: Record<string, Record<string, Operation>>
        components: object
      }
      const [errors, schemas] = [{}, {}]
      for (const path of Object.values(paths)) {
        for (const operation of Object.values(path)) complete(operation, errors)
      }
      tidy(Event, schemas)
      return {
        ...rest,
        paths: tidy(paths, schemas),
        components: { ...components, responses: tidy(errors, schemas), schemas }
      }
    })
  },
  { name: 'openapi' }
)
