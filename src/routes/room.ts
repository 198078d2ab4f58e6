import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { bearerSecurity, noSecurity } from '../../schemas/openapi.ts'
import { Room, UpdateRoom } from '../../schemas/room.ts'
import {
  bodyFailures,
  Busy,
  DatabaseUnavailable,
  failures,
  moderatorFailures,
  outages,
  RateLimited,
  validationFailures
} from '../errors/catalogue.ts'
import { updateRoom } from '../moderation/actions.ts'
import { readSettings } from '../moderation/room.ts'
import { abortOnClose } from '../http/abort-on-close.ts'

/** The settings of the room. */
const room: FastifyPluginAsyncTypebox = async (app) => {
  const {
    sql,
    room: { follower, history, online }
  } = app
  const tags = ['room']

  const show = {
    operationId: 'showRoom',
    summary: 'Get the settings of the room',
    tags,
    description:
      'Returns the topic, slow mode, whether the room is read-only, and how many people are online.',
    security: noSecurity,
    response: { 200: Room, ...failures(DatabaseUnavailable, Busy) }
  }
  app.get('/api/room', { schema: show }, async (request, reply) => {
    const settings = await history.run(request.clientAddress, abortOnClose(reply), () => readSettings(sql))
    return reply.code(200).send({ ...settings, online: online.value })
  })

  const update = {
    operationId: 'updateRoom',
    summary: 'Change the settings of the room',
    tags,
    description:
      'For moderators. Sends an event to all clients. Settings that are left out stay as they are.',
    security: bearerSecurity,
    body: UpdateRoom,
    response: {
      200: Room,
      ...failures(
        ...validationFailures(UpdateRoom),
        ...bodyFailures,
        ...moderatorFailures,
        RateLimited,
        ...outages
      )
    }
  }
  app.patch(
    '/api/room',
    { onRequest: [app.authenticate, app.limitWrites, app.requireModerator], schema: update },
    async (request, reply) => {
      const updated = await updateRoom(sql, request.userId, request.body, online.value)
      await follower.caughtUp()
      return reply.code(200).send(updated)
    }
  )
}
export default room
