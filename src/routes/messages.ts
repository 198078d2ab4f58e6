import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import {
  PostMessageRequest,
  DeletedMessage,
  EditMessageRequest,
  Message,
  MessageFound,
  MessageList,
  ListMessagesQuery,
  PostedMessage,
  PostHeaders
} from '../../schemas/messages.ts'
import { bearerSecurity, noSecurity } from '../../schemas/openapi.ts'
import { IdParams } from '../../schemas/params.ts'
import type { Config } from '../config.ts'
import { confirmChange } from '../chat/confirm-change.ts'
import { deleteMessage, editMessage, hasMessage } from '../chat/messages.ts'
import { readMessage, readPage } from '../chat/pages.ts'
import { publishDeletions } from '../chat/redis-events.ts'
import type { Page } from '../chat/timeline.ts'
import { findUserById } from '../accounts/users.ts'
import { requireMember } from '../moderation/members.ts'
import {
  addressFailures,
  authorFailures,
  bodyFailures,
  Busy,
  DatabaseUnavailable,
  failures,
  IdempotencyKeyReused,
  MessageNotFound,
  outages,
  RateLimited,
  ReplyToNotFound,
  SlowMode,
  speechFailures,
  TooManyLongPolls,
  UserNotFound,
  UserProtected,
  validationFailures
} from '../errors/catalogue.ts'
import { abortOnClose } from '../http/abort-on-close.ts'

// Only numeric ids match; anything else is a 404.
const ONE = '/api/messages/:id(^\\d+$)'
const tags = ['messages']

/**
 * Lets a proxy answer many pollers with one page. The page may be a second old. Ids become visible in order,
 * so a client that polls with `after_id` misses nothing. But a client may not see its own post at once, so
 * this is off by default.
 */
const CACHEABLE = { 'cache-control': 'public, max-age=1' }

/** `X-Stale`, because `Age` alone could also come from a cache in between. */
const stale = (age: number) => ({ age, 'x-stale': 'true' })

/** Reading messages, without a token. */
const messages: FastifyPluginAsyncTypebox<{ config: Config }> = async (app, { config }) => {
  const {
    sql: query,
    room: { timeline, history, longPolls }
  } = app
  const sources = { timeline, query, history }

  const schema = {
    operationId: 'listMessages',
    summary: 'List messages',
    tags,
    description:
      'Returns a page of messages, ascending by id: the newest, or those next to a cursor. With `wait`, a ' +
      'page that would be empty waits for the first message (a long poll).',
    security: noSecurity,
    querystring: ListMessagesQuery,
    response: {
      200: MessageList,
      ...failures(...validationFailures(ListMessagesQuery), DatabaseUnavailable, Busy, TooManyLongPolls)
    }
  }
  app.get('/api/messages', { schema }, (request, reply) => {
    const { after_id: after, wait = 0 } = request.query
    const getReader = () => ({ address: request.clientAddress, signal: abortOnClose(reply) })
    const read = () => readPage(sources, request.query, getReader)
    const send = ({ age, cursor, json }: Page) => {
      if (age !== undefined) reply.headers(stale(age))
      else if (config.CACHE_PAGES === 'on' && wait === 0) reply.headers(CACHEABLE)
      const headers = { 'content-type': 'application/json; charset=utf-8', 'x-event-cursor': cursor }
      void reply.code(200).headers(headers).send(json)
    }
    const sendLater = async (firstRead: Page | Promise<Page>) => {
      let page = await firstRead
      if (page.isEmpty && after !== undefined && wait > 0) {
        const from = performance.now()
        request.waitedMs = Infinity // all of the time, if the client leaves meanwhile
        const address = request.isBehindUnknownProxy ? undefined : request.clientAddress
        await longPolls.wait(after, address, abortOnClose(reply, wait * 1000))
        request.waitedMs = performance.now() - from
        page = await read()
      }
      send(page)
      return reply
    }
    // Pages in memory are sent synchronously: a promise would cost more than the page.
    const page = read()
    return page instanceof Promise || (page.isEmpty && wait > 0) ? sendLater(page) : send(page)
  })

  const one = {
    operationId: 'getMessage',
    summary: 'Get a message',
    tags,
    description: 'Returns one message. A deleted message is a 404.',
    security: noSecurity,
    params: IdParams,
    response: {
      200: MessageFound,
      ...failures(MessageNotFound, ...addressFailures, DatabaseUnavailable, Busy)
    }
  }
  app.get(ONE, { schema: one }, async (request, reply) => {
    const getReader = () => ({ address: request.clientAddress, signal: abortOnClose(reply) })
    const { json, age } = await readMessage(sources, request.params.id, getReader)
    if (age !== undefined) reply.headers(stale(age))
    if (json === undefined) throw new MessageNotFound()
    return reply.code(200).header('content-type', 'application/json; charset=utf-8').send(json)
  })

  app.register(ownMessages)
}
export default messages

/** Posting, editing and deleting, with a session token or an API token. */
const ownMessages: FastifyPluginAsyncTypebox = async (app) => {
  const { sql, room } = app
  app.addHook('onRequest', app.authenticateAuthor)
  app.addHook('onRequest', app.limitWrites)

  const writeFailures = [...bodyFailures, ...authorFailures, RateLimited, ...outages]

  const post = {
    operationId: 'postMessage',
    summary: 'Post a message',
    tags,
    description:
      'Stores a message and announces it to all clients. With an `Idempotency-Key` it can be retried ' +
      'safely after any failure.',
    security: bearerSecurity,
    body: PostMessageRequest,
    headers: PostHeaders,
    response: {
      201: PostedMessage,
      ...failures(
        ...validationFailures(PostMessageRequest, PostHeaders),
        ...writeFailures,
        ReplyToNotFound,
        ...speechFailures,
        SlowMode,
        IdempotencyKeyReused
      )
    }
  }
  app.post('/api/messages', { schema: post }, async (request, reply) => {
    const { message, isReplay } = await room.writer.post({
      userId: request.userId,
      text: request.body.text,
      replyTo: request.body.replyTo,
      key: request.headers['idempotency-key']
    })
    if (isReplay) reply.header('idempotency-replayed', 'true')
    return reply.code(201).send(message)
  })

  const whyNotEdited = async (userId: number) =>
    (await findUserById(sql, userId)) ? new MessageNotFound() : new UserNotFound()

  async function whyNotDeleted(id: number, userId: number, canModerate: boolean) {
    const { role } = await requireMember(sql, userId)
    const isProtected = canModerate && role === 'moderator' && (await hasMessage(sql, id))
    return isProtected ? new UserProtected() : new MessageNotFound()
  }

  const edit = {
    operationId: 'editMessage',
    summary: 'Edit a message',
    tags,
    description: 'Replaces the text of one of your own messages.',
    security: bearerSecurity,
    params: IdParams,
    body: EditMessageRequest,
    response: {
      200: Message,
      ...failures(
        ...validationFailures(EditMessageRequest),
        ...writeFailures,
        ...speechFailures,
        MessageNotFound,
        ...addressFailures
      )
    }
  }
  app.patch(ONE, { schema: edit }, async (request, reply) => {
    const message = await editMessage(app.pipeline, request.params.id, request.userId, request.body.text)
    if (message === undefined) throw await whyNotEdited(request.userId)
    await confirmChange(room, sql, [message.id], message)
    return reply.code(200).send(message)
  })

  const remove = {
    operationId: 'deleteMessage',
    summary: 'Delete a message',
    tags,
    description:
      'Deletes one of your own messages for everyone. Moderators can also delete those of members, and ' +
      'admins any message, but not with an API token.',
    security: bearerSecurity,
    params: IdParams,
    response: {
      200: DeletedMessage,
      ...failures(...writeFailures, MessageNotFound, UserProtected, ...addressFailures)
    }
  }
  app.delete(ONE, { schema: remove }, async (request, reply) => {
    const { id } = request.params
    const canModerate = !request.hasApiToken
    if (!(await deleteMessage(sql, id, request.userId, canModerate))) {
      throw await whyNotDeleted(id, request.userId, canModerate)
    }
    publishDeletions(app.redis, [id], request.log)
    await confirmChange(room, sql, [id], undefined)
    return reply.code(200).send({ id, status: 'deleted' })
  })
}
