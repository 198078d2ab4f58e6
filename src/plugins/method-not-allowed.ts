import type { FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import findMyWay from 'find-my-way'
import { MethodNotAllowed, RouteNotFound } from '../errors/catalogue.ts'

interface OtherMethods {
  /** The pattern of the URL. */
  url: string
  allowed: string[]
}

declare module 'fastify' {
  interface FastifyRequest {
    /** The pattern and the methods of the URL, if it has routes, but none for the method of this request. */
    otherMethods: OtherMethods | undefined
  }
}

/** The pattern of the catch-all route that @fastify/cors declares for preflights. */
const PREFLIGHTS = '*'

/** How the service reads a path. Node limits the length of a URL, and so of a parameter, to 16 KiB. */
export const routerOptions = {
  ignoreDuplicateSlashes: true,
  ignoreTrailingSlash: true,
  maxParamLength: 16 * 1024
}

/**
 * Decorates requests with `otherMethods`, for the routes declared from now on. A second router has each URL
 * once: a route of Fastify for each method that is not allowed would cost 40 ms of the start and several MB.
 */
export const otherMethods = fp(
  async (app) => {
    const router = findMyWay(routerOptions)
    const byUrl = new Map<string, OtherMethods>()
    app.addHook('onRoute', ({ url, method }) => {
      if (url === PREFLIGHTS) return
      let known = byUrl.get(url)
      if (!known) {
        known = { url, allowed: [] }
        byUrl.set(url, known)
        router.on('GET', url, () => {}, known)
      }
      known.allowed.push(...[method].flat())
    })

    app.decorateRequest('otherMethods', undefined)
    app.addHook('onRequest', (request, _reply, done) => {
      if (hasNoRoute(request)) {
        request.otherMethods = router.find('GET', request.raw.url ?? '')?.store ?? undefined
      }
      done()
    })
  },
  { name: 'other-methods' }
)

/** Whether the request has no route, or only the catch-all for preflights. */
function hasNoRoute(request: FastifyRequest): boolean {
  return request.is404 || (request.method === 'OPTIONS' && request.routeOptions.url === PREFLIGHTS)
}

/**
 * Refuses unknown paths, and known ones with 405 and `Allow` (RFC 9110, 15.5.6), after all other hooks.
 */
export const methodNotAllowed = fp(
  async (app) => {
    app.addHook('onRequest', (request, reply, done) => {
      const { otherMethods } = request
      if (!otherMethods) return done(hasNoRoute(request) ? new RouteNotFound() : undefined)
      reply.header('allow', otherMethods.allowed.join(', '))
      done(new MethodNotAllowed())
    })
  },
  { name: 'method-not-allowed', dependencies: ['other-methods'] }
)
