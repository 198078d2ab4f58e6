import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { NoContent } from '../../schemas/errors.ts'
import { IdParams } from '../../schemas/params.ts'
import {
  CreateReport,
  CreateRestriction,
  DeletedMessages,
  ModerationLog,
  PageQuery,
  ReportList,
  Restriction,
  RestrictionList,
  SetRole,
  UserRole
} from '../../schemas/moderation.ts'
import { bearerSecurity } from '../../schemas/openapi.ts'
import { confirmChange } from '../chat/confirm-change.ts'
import { publishDeletions } from '../chat/redis-events.ts'
import {
  addressFailures,
  bodyFailures,
  failures,
  LastAdmin,
  MessageNotFound,
  moderatorFailures,
  outages,
  OwnAccount,
  RateLimited,
  ReportUnknown,
  sessionFailures,
  UntilPast,
  UserProtected,
  UserUnknown,
  validationFailures
} from '../errors/catalogue.ts'
import { liftRestriction, restrict, setRole } from '../moderation/actions.ts'
import { deleteAllMessages } from '../moderation/deletions.ts'
import {
  findLatestRestriction,
  findUserRole,
  listModerationLog,
  listReports,
  listRestrictions
} from '../moderation/lists.ts'
import { closeReport, reportMessage } from '../moderation/reports.ts'

const tags = ['moderation']

/** Actions of moderators and admins. */
const moderation: FastifyPluginAsyncTypebox = async (app) => {
  const { sql, sessions, room } = app
  app.register(reports)

  const actionFailures = [
    ...bodyFailures,
    ...addressFailures,
    ...moderatorFailures,
    UserUnknown,
    RateLimited,
    ...outages
  ]
  const moderatorOnly = [app.authenticate, app.limitWrites, app.requireModerator]
  const moderatorReads = [app.authenticate, app.requireModerator]

  const createRestriction = {
    operationId: 'restrictUser',
    summary: 'Mute or ban a user',
    tags,
    security: bearerSecurity,
    description:
      'For moderators. Replaces any restriction that the user has. A ban immediately ends all ' +
      'sessions of the user and revokes their API tokens.',
    params: IdParams,
    body: CreateRestriction,
    response: {
      200: Restriction,
      ...failures(
        ...validationFailures(CreateRestriction),
        UntilPast,
        ...actionFailures,
        UserProtected,
        OwnAccount,
        LastAdmin
      )
    }
  }
  app.put(
    '/api/users/:id(^\\d+$)/restriction',
    { onRequest: moderatorOnly, schema: createRestriction },
    async (request, reply) => {
      const { id } = request.params
      const { kind, until: untilText, reason } = request.body
      const until = untilText ? new Date(untilText) : undefined
      if (until !== undefined && until.getTime() <= Date.now()) throw new UntilPast()
      await restrict(sql, request.userId, id, { kind, until, reason: reason || undefined })
      // Before the sessions end, which may take longer than the restriction lasts.
      const restriction = await findLatestRestriction(sql, id)
      if (kind === 'ban') await sessions.endAll(id)
      if (restriction === undefined) throw new UserUnknown() // It was deleted meanwhile.
      return reply.code(200).send(restriction)
    }
  )

  const endRestriction = {
    operationId: 'liftRestriction',
    summary: 'Lift the restriction of a user',
    tags,
    description: 'For moderators. Does nothing if the user has no restriction.',
    security: bearerSecurity,
    params: IdParams,
    response: { 204: NoContent, ...failures(...actionFailures, UserProtected, OwnAccount) }
  }
  app.delete(
    '/api/users/:id(^\\d+$)/restriction',
    { onRequest: moderatorOnly, schema: endRestriction },
    async (request, reply) => {
      await liftRestriction(sql, request.userId, request.params.id)
      return reply.code(204).send(null)
    }
  )

  const deleteMessages = {
    operationId: 'deleteMessagesOfUser',
    summary: 'Delete all messages of a user',
    tags,
    description: 'For moderators. Clients get a `message_deleted` event for each message.',
    security: bearerSecurity,
    params: IdParams,
    response: { 200: DeletedMessages, ...failures(...actionFailures, UserProtected, OwnAccount) }
  }
  app.delete(
    '/api/users/:id(^\\d+$)/messages',
    { onRequest: moderatorOnly, schema: deleteMessages },
    async (request, reply) => {
      const ids: number[] = []
      const deleted = await deleteAllMessages(sql, request.userId, request.params.id, (batch) => {
        ids.push(...batch)
        publishDeletions(app.redis, batch, request.log)
      })
      await confirmChange(room, sql, ids, undefined)
      return reply.code(200).send({ deleted })
    }
  )

  const giveRole = {
    operationId: 'setRole',
    summary: 'Give a user a role',
    tags,
    security: bearerSecurity,
    description: 'For admins. They can give up their own role as long as there is another admin.',
    params: IdParams,
    body: SetRole,
    response: {
      200: UserRole,
      ...failures(...validationFailures(SetRole), ...actionFailures, LastAdmin)
    }
  }
  app.put(
    '/api/users/:id(^\\d+$)/role',
    { onRequest: [app.authenticate, app.limitWrites, app.requireAdmin], schema: giveRole },
    async (request, reply) => {
      await setRole(sql, request.userId, request.params.id, request.body.role)
      const user = await findUserRole(sql, request.params.id)
      if (user === undefined) throw new UserUnknown() // It was deleted meanwhile.
      return reply.code(200).send(user)
    }
  )

  const listFailures = failures(...validationFailures(PageQuery), ...moderatorFailures, ...outages)

  const restrictions = {
    operationId: 'listRestrictions',
    summary: 'List restrictions',
    tags,
    description: 'For moderators. Lists who is muted or banned now.',
    security: bearerSecurity,
    querystring: PageQuery,
    response: { 200: RestrictionList, ...listFailures }
  }
  app.get('/api/restrictions', { onRequest: moderatorReads, schema: restrictions }, async (request, reply) =>
    reply.code(200).send(await listRestrictions(sql, request.query))
  )

  const log = {
    operationId: 'listModerationLog',
    summary: 'Read the moderation log',
    tags,
    description: 'For moderators. Lists who did what to whom, and why.',
    security: bearerSecurity,
    querystring: PageQuery,
    response: { 200: ModerationLog, ...listFailures }
  }
  app.get('/api/moderation-log', { onRequest: moderatorReads, schema: log }, async (request, reply) =>
    reply.code(200).send(await listModerationLog(sql, request.query))
  )

  const openReports = {
    operationId: 'listReports',
    summary: 'List open reports',
    tags,
    description:
      'For moderators. Lists the open reports with their messages, except for deleted messages. A page has ' +
      'at most 4 MiB of text, or one report, so a short page need not be the last.',
    security: bearerSecurity,
    querystring: PageQuery,
    response: { 200: ReportList, ...listFailures }
  }
  app.get('/api/reports', { onRequest: moderatorReads, schema: openReports }, async (request, reply) =>
    reply.code(200).send(await listReports(sql, request.query))
  )

  const close = {
    operationId: 'closeReport',
    summary: 'Close a report',
    tags,
    description: 'For moderators. The report disappears from the list.',
    security: bearerSecurity,
    params: IdParams,
    response: {
      204: NoContent,
      ...failures(
        ...bodyFailures,
        ...addressFailures,
        ...moderatorFailures,
        ReportUnknown,
        RateLimited,
        ...outages
      )
    }
  }
  app.delete(
    '/api/reports/:id(^\\d+$)',
    { onRequest: moderatorOnly, schema: close },
    async (request, reply) => {
      await closeReport(sql, request.userId, request.params.id)
      return reply.code(204).send(null)
    }
  )
}
export default moderation

/** Reporting a message, which every user may do. */
const reports: FastifyPluginAsyncTypebox = async (app) => {
  const schema = {
    operationId: 'reportMessage',
    summary: 'Report a message to the moderators',
    tags,
    security: bearerSecurity,
    description: 'Asks the moderators to look at a message. Each user can report a message once.',
    params: IdParams,
    body: CreateReport,
    response: {
      204: NoContent,
      ...failures(
        ...validationFailures(CreateReport),
        ...bodyFailures,
        ...addressFailures,
        ...sessionFailures,
        MessageNotFound,
        RateLimited,
        ...outages
      )
    }
  }
  app.post(
    '/api/messages/:id(^\\d+$)/report',
    { onRequest: [app.authenticate, app.limitWrites], schema },
    async (request, reply) => {
      await reportMessage(app.sql, request.userId, request.params.id, request.body.reason)
      return reply.code(204).send(null)
    }
  )
}
