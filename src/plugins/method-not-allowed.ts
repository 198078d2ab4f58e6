import { METHODS } from 'node:http'
import type { FastifyInstance, FastifyPluginAsync } from 'fastify'
import { failures, MethodNotAllowed } from '../errors/catalogue.ts'

/**
 * Records the routes declared from now on. Register the plugin that it returns after them: it answers other
 * methods with 405 and `Allow` (RFC 9110, 15.5.6).
 */
export function watchRoutes(app: FastifyInstance): FastifyPluginAsync {
  for (const method of METHODS) {
    if (method !== 'CONNECT' && !app.supportedMethods.includes(method)) app.addHttpMethod(method)
  }
  const methodsByUrl = new Map<string, string[]>()
  app.addHook('onRoute', ({ url, method }) => {
    methodsByUrl.set(url, [...(methodsByUrl.get(url) ?? []), ...[method].flat()])
  })

  return async (app) => {
    const response = failures(MethodNotAllowed)
    for (const [url, methods] of [...methodsByUrl]) {
      app.route({
        url,
        method: app.supportedMethods.filter((method) => !methods.includes(method)),
        schema: { hide: true, response },
        onRequest: async (_request, reply) => {
          reply.header('allow', methods.join(', '))
          throw new MethodNotAllowed()
        },
        handler: () => {}
      })
    }
  }
}
