import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { OpenApi } from '../../schemas/openapi.ts'
import { Busy, failures } from '../errors.ts'

/** What this service answers to, for programs. */
const openapi: FastifyPluginAsyncTypebox = async (app) => {
  const schema = { operationId: 'describe', summary: 'This document', tags: ['documents'], response: { 200: OpenApi, ...failures(Busy) } }
  let bytes: Buffer | undefined // made when somebody asks, so that no start waits for it
  app.get('/api/openapi.json', { schema }, async (_request, reply) => {
    bytes ??= Buffer.from(JSON.stringify(await app.describe()))
    return reply.code(200).header('content-type', 'application/json; charset=utf-8').send(bytes)
  })
}
export default openapi
