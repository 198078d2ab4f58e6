import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { ApiTokenList, CreateApiTokenRequest, CreateApiTokenResponse } from '../../schemas/accounts.ts'
import { NoContent } from '../../schemas/errors.ts'
import { bearerSecurity } from '../../schemas/openapi.ts'
import { IdParams } from '../../schemas/params.ts'
import { createApiToken, listApiTokens, MAX_API_TOKENS, revokeApiToken } from '../accounts/api-tokens.ts'
import {
  addressFailures,
  ApiTokenUnknown,
  bodyFailures,
  failures,
  outages,
  RateLimited,
  sessionFailures,
  TooManyApiTokens,
  validationFailures
} from '../errors/catalogue.ts'

/** A user's API tokens, for bots. */
const tokens: FastifyPluginAsyncTypebox = async (app) => {
  const { sql } = app
  app.addHook('onRequest', app.authenticate)
  app.addHook('onRequest', app.limitAccountManagement)
  app.addHook('onRequest', app.requireUser)
  const tags = ['tokens']

  const list = {
    operationId: 'listApiTokens',
    summary: 'List your API tokens',
    tags,
    description: 'Shows their names and when they were last used, but not the tokens themselves.',
    security: bearerSecurity,
    response: { 200: ApiTokenList, ...failures(...sessionFailures, RateLimited, ...outages) }
  }
  app.get('/api/tokens', { schema: list }, async (request, reply) =>
    reply.code(200).send(await listApiTokens(sql, request.userId))
  )

  const create = {
    operationId: 'createApiToken',
    summary: 'Create an API token for a bot',
    tags,
    description:
      'A bot with this token posts, edits and deletes as you. It is valid until it is revoked. ' +
      `You can have ${MAX_API_TOKENS}.`,
    security: bearerSecurity,
    body: CreateApiTokenRequest,
    response: {
      201: CreateApiTokenResponse,
      ...failures(
        ...validationFailures(CreateApiTokenRequest),
        ...bodyFailures,
        ...sessionFailures,
        TooManyApiTokens,
        RateLimited,
        ...outages
      )
    }
  }
  app.post('/api/tokens', { schema: create }, async (request, reply) => {
    const { name } = request.body
    const { id, token } = await createApiToken(sql, request.userId, name)
    return reply.code(201).send({ id, name, token })
  })

  const revoke = {
    operationId: 'revokeApiToken',
    summary: 'Revoke an API token',
    tags,
    description: 'Requests with this token get 401 from now on.',
    security: bearerSecurity,
    params: IdParams,
    response: {
      204: NoContent,
      ...failures(
        ...bodyFailures,
        ...sessionFailures,
        ApiTokenUnknown,
        ...addressFailures,
        RateLimited,
        ...outages
      )
    }
  }
  app.delete('/api/tokens/:id(^\\d+$)', { schema: revoke }, async (request, reply) => {
    if (!(await revokeApiToken(sql, request.userId, request.params.id))) throw new ApiTokenUnknown()
    return reply.code(204).send(null)
  })
}
export default tokens
