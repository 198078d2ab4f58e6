import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { SessionId, SessionList } from '../../schemas/accounts.ts'
import { errorAnswers, NoContent } from '../../schemas/errors.ts'
import { endOtherSessions, endSession, listSessions } from '../accounts/sessions.ts'
import { findUserById } from '../accounts/users.ts'
import { SessionUnknown, UserNotFound } from '../errors.ts'
import { bearerToken } from '../plugins/authenticate.ts'

/** Where a user is logged in. */
const sessions: FastifyPluginAsyncTypebox = async (app) => {
  const { redis, sql } = app
  app.addHook('onRequest', app.authenticate)
  app.addHook('onRequest', async ({ userId }) => {
    if (await findUserById(sql, userId) === undefined) throw new UserNotFound()
  })
  const ended = { 204: NoContent, ...errorAnswers }

  app.get('/api/sessions', { schema: { response: { 200: SessionList, ...errorAnswers } } }, async (request, reply) =>
    reply.code(200).send(await listSessions(redis, request.userId, bearerToken(request))))

  app.delete('/api/sessions', { schema: { response: ended } }, async (request, reply) => {
    await endOtherSessions(redis, request.userId, bearerToken(request))
    return reply.code(204).send(null)
  })

  app.delete('/api/sessions/:id', { schema: { params: SessionId, response: ended } }, async (request, reply) => {
    const session = (await listSessions(redis, request.userId, bearerToken(request))).find(({ id }) => id === request.params.id)
    if (session === undefined || !await endSession(redis, session.token)) throw new SessionUnknown()
    return reply.code(204).send(null)
  })
}
export default sessions
