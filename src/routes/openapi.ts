import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { noSecurity, OpenApi } from '../../schemas/openapi.ts'
import { Busy, failures } from '../errors/catalogue.ts'

/** The OpenAPI document. */
const openapi: FastifyPluginAsyncTypebox = async (app) => {
  const schema = {
    operationId: 'getOpenApi',
    summary: 'This document',
    tags: ['documentation'],
    description:
      'The OpenAPI document, generated from the schemas that validate requests and serialise responses.',
    security: noSecurity,
    response: { 200: OpenApi, ...failures(Busy) }
  }
  // Generated once, on the first request, so that the start does not wait for it.
  let document: Buffer | undefined
  app.get('/api/openapi.json', { schema }, async (_request, reply) => {
    document ??= Buffer.from(JSON.stringify(app.swagger()))
    return reply.code(200).header('content-type', 'application/json; charset=utf-8').send(document)
  })
}
export default openapi
