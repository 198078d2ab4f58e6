import type { FastifyRequest } from 'fastify'

/**
 * The pattern of the route that a request is for, also when its method is not allowed there; undefined for an
 * unknown path.
 */
export function routeOf({ otherMethods, routeOptions: { url } }: FastifyRequest): string | undefined {
  if (otherMethods) return otherMethods.url
  return url === '*' ? undefined : url // the catch-all of @fastify/cors
}
