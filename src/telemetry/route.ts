import type { FastifyRequest } from 'fastify'

/**
 * The pattern of the route that a request is for, also when its method is not allowed there; undefined for an
 * unknown path.
 */
export const routeOf = (request: FastifyRequest): string | undefined =>
  request.otherMethods?.url ?? request.routeOptions.url
