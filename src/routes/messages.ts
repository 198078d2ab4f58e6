import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { errorAnswers } from '../../schemas/errors.ts'
import { CreateMessage, Message, MessageList, PageOfMessages } from '../../schemas/messages.ts'
import { insertMessage, listMessages } from '../chat/messages.ts'
import { UserNotFound } from '../errors.ts'

/** Reading the room, which anyone may. */
const messages: FastifyPluginAsyncTypebox = async (app) => {
  const schema = { querystring: PageOfMessages, response: { 200: MessageList, ...errorAnswers } }
  app.get('/api/messages', { schema }, async (request, reply) => reply.code(200).send(await listMessages(app.sql, request.query)))
  app.register(ownMessages)
}
export default messages

/** Posting to it, which needs a session. */
const ownMessages: FastifyPluginAsyncTypebox = async (app) => {
  app.addHook('onRequest', app.authenticate)

  const schema = { body: CreateMessage, response: { 201: Message, ...errorAnswers } }
  app.post('/api/messages', { schema }, async (request, reply) => {
    const message = await insertMessage(app.sql, request.userId, request.body.text)
    if (message === undefined) throw new UserNotFound()
    return reply.code(201).send(message)
  })
}
