import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { errorAnswers } from '../../schemas/errors.ts'
import { CreateMessage, DeletedMessage, EditMessage, Message, MessageId, MessageList, PageOfMessages, PostHeaders } from '../../schemas/messages.ts'
import { deleteMessage, editMessage } from '../chat/messages.ts'
import { readPage } from '../chat/pages.ts'
import { hasUser } from '../accounts/users.ts'
import { MessageNotFound, UserNotFound } from '../errors.ts'
import { answerOver } from '../requests.ts'

// What is no number is no message's address.
const ONE = '/api/messages/:id(^\\d+$)'

/** Reading the room, which anyone may. */
const messages: FastifyPluginAsyncTypebox = async (app) => {
  const { sql, room: { timeline } } = app

  const schema = { querystring: PageOfMessages, response: { 200: MessageList, ...errorAnswers } }
  app.get('/api/messages', { schema, handlerTimeout: 40_000 }, async (request, reply) => {
    const { after_id: after, wait = 0 } = request.query
    let page = await readPage(sql, timeline, request.query)
    if (page.isEmpty && after !== undefined && wait > 0) {
      await timeline.messageAfter(after, answerOver(reply, wait * 1000))
      page = await readPage(sql, timeline, request.query)
    }
    if (page.age !== undefined) reply.header('age', page.age)
    return reply.code(200).headers({ 'content-type': 'application/json; charset=utf-8', 'x-event-cursor': page.cursor }).send(page.bytes)
  })

  app.register(ownMessages)
}
export default messages

/** Writing to it, which needs a session. */
const ownMessages: FastifyPluginAsyncTypebox = async (app) => {
  const { sql, room: { follower, writer } } = app
  app.addHook('onRequest', app.authenticate)

  const post = { body: CreateMessage, headers: PostHeaders, response: { 201: Message, ...errorAnswers } }
  app.post('/api/messages', { schema: post, onRequest: app.limitPosts }, async (request, reply) => {
    const { message, isReplay } = await writer.post(request.userId, request.body.text, request.headers['idempotency-key'])
    if (isReplay) reply.header('idempotency-replayed', 'true')
    return reply.code(201).send(message)
  })

  const notFound = async (userId: number) => await hasUser(sql, userId) ? new MessageNotFound() : new UserNotFound()

  app.patch(ONE, { schema: { params: MessageId, body: EditMessage, response: { 200: Message, ...errorAnswers } } }, async (request, reply) => {
    const message = await editMessage(sql, request.params.id, request.userId, request.body.text)
    if (message === undefined) throw await notFound(request.userId)
    await follower.caughtUp()
    return reply.code(200).send(message)
  })

  app.delete(ONE, { schema: { params: MessageId, response: { 200: DeletedMessage, ...errorAnswers } } }, async (request, reply) => {
    const { id } = request.params
    if (!await deleteMessage(sql, id, request.userId)) throw await notFound(request.userId)
    await follower.caughtUp()
    return reply.code(200).send({ id, status: 'deleted' })
  })
}
