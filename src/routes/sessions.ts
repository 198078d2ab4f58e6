import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { SessionId, SessionList } from '../../schemas/accounts.ts'
import { NoContent } from '../../schemas/errors.ts'
import { bearerSecurity } from '../../schemas/openapi.ts'
import {
  addressFailures,
  bodyFailures,
  failures,
  outages,
  RateLimited,
  sessionFailures,
  SessionUnknown
} from '../errors/catalogue.ts'
import { bearerToken } from '../plugins/authenticate.ts'

/** A user's sessions. */
const sessions: FastifyPluginAsyncTypebox = async (app) => {
  app.addHook('onRequest', app.authenticate)
  app.addHook('onRequest', app.limitAccountManagement)
  app.addHook('onRequest', app.requireUser)
  const tags = ['sessions']

  const list = {
    operationId: 'listSessions',
    summary: 'List your sessions',
    tags,
    description: 'Shows where you are logged in. The list contains no tokens.',
    security: bearerSecurity,
    response: { 200: SessionList, ...failures(...sessionFailures, RateLimited, ...outages) }
  }
  app.get('/api/sessions', { schema: list }, async (request, reply) =>
    reply.code(200).send(await app.sessions.list(request.userId, bearerToken(request)))
  )

  const endOthers = {
    operationId: 'endOtherSessions',
    summary: 'End all other sessions',
    tags,
    description: 'Logs you out everywhere else. The session of the token stays.',
    security: bearerSecurity,
    response: { 204: NoContent, ...failures(...bodyFailures, ...sessionFailures, RateLimited, ...outages) }
  }
  app.delete('/api/sessions', { schema: endOthers }, async (request, reply) => {
    await app.sessions.endOthers(request.userId, bearerToken(request))
    return reply.code(204).send(null)
  })

  const endOne = {
    operationId: 'endSession',
    summary: 'End a session',
    tags,
    description: 'Ends one of your sessions; the id comes from the list of sessions.',
    security: bearerSecurity,
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
