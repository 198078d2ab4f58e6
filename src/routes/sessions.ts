import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { SessionId, SessionList } from '../../schemas/accounts.ts'
import { NoContent } from '../../schemas/errors.ts'
import { findUserById } from '../accounts/users.ts'
import {
  addressFailures,
  bodyFailures,
  failures,
  outages,
  RateLimited,
  sessionFailures,
  SessionUnknown,
  UserNotFound
} from '../errors/catalogue.ts'
import { bearerToken } from '../plugins/authenticate.ts'

/** Where a user is logged in. */
const sessions: FastifyPluginAsyncTypebox = async (app) => {
  const { sql } = app
  app.addHook('onRequest', app.authenticate)
  app.addHook('onRequest', app.limitSessionManagement)
  app.addHook('onRequest', async ({ userId }) => {
    if ((await findUserById(sql, userId)) === undefined) throw new UserNotFound()
  })
  const tags = ['sessions']

  const list = {
    operationId: 'listSessions',
    summary: 'Where you are logged in',
    tags,
    response: { 200: SessionList, ...failures(...sessionFailures, RateLimited, ...outages) }
  }
  app.get('/api/sessions', { schema: list }, async (request, reply) =>
    reply.code(200).send(await app.sessions.list(request.userId, bearerToken(request)))
  )

  const endOthers = {
    operationId: 'endOtherSessions',
    summary: 'Log out everywhere else',
    tags,
    response: { 204: NoContent, ...failures(...bodyFailures, ...sessionFailures, RateLimited, ...outages) }
  }
  app.delete('/api/sessions', { schema: endOthers }, async (request, reply) => {
    await app.sessions.endOthers(request.userId, bearerToken(request))
    return reply.code(204).send(null)
  })

  const endOne = {
    operationId: 'endSession',
    summary: 'End one session',
    tags,
    params: SessionId,
    response: {
      204: NoContent,
      ...failures(
        ...bodyFailures,
        ...sessionFailures,
        SessionUnknown,
        ...addressFailures,
        RateLimited,
        ...outages
      )
    }
  }
  app.delete('/api/sessions/:id', { schema: endOne }, async (request, reply) => {
    const sessions = await app.sessions.list(request.userId, bearerToken(request))
    const session = sessions.find(({ id }) => id === request.params.id)
    const userId = session && (await app.sessions.end(session.token))
    if (userId === undefined) throw new SessionUnknown()
    return reply.code(204).send(null)
  })
}
export default sessions
