import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyReply, FastifyRequest } from 'fastify'
import {
  Account,
  ChangePasswordRequest,
  RegisterRequest,
  DeleteAccountRequest,
  LoginRequest,
  Me,
  LoginResponse
} from '../../schemas/accounts.ts'
import { NoContent } from '../../schemas/errors.ts'
import { bearerSecurity, noSecurity } from '../../schemas/openapi.ts'
import { isApiToken } from '../accounts/api-tokens.ts'
import { deleteAccount } from '../accounts/deletion.ts'
import { lookupNickname } from '../accounts/nicknames.ts'
import { confirmChange } from '../chat/confirm-change.ts'
import { publishDeletions } from '../chat/redis-events.ts'
import {
  deleteNewUser,
  deleteUser,
  findUser,
  findUserById,
  insertUser,
  replacePassword
} from '../accounts/users.ts'
import type { Config } from '../config.ts'
import { findMember, requireMember } from '../moderation/members.ts'
import {
  authorFailures,
  Banned,
  bodyFailures,
  Busy,
  DatabaseUnavailable,
  failures,
  InvalidCredentials,
  LastAdmin,
  NicknameTaken,
  NicknameTooSimilar,
  outages,
  RateLimited,
  RedisUnavailable,
  sessionFailures,
  SessionRequired,
  tokenFailures,
  UserNotFound,
  validationFailures
} from '../errors/catalogue.ts'
import { bearerToken } from '../plugins/authenticate.ts'
import { abortOnClose } from '../http/abort-on-close.ts'
import { reasonOf } from '../lib/reason.ts'
import { withTimeout } from '../lib/timeout.ts'

/** How long the error of a failed request waits until what PostgreSQL may have done is undone. */
const UNDO_MS = 300

/** Waits until a failed request is undone, and logs it if that fails or takes too long. */
async function undo(request: FastifyRequest, what: string, undoing: Promise<unknown>): Promise<void> {
  await withTimeout(UNDO_MS, undoing).catch((error: unknown) => {
    request.log.warn(`could not undo ${what} in time: ${reasonOf(error)}`)
  })
}

const clientOf = (reply: FastifyReply) => ({
  address: reply.request.clientAddress,
  signal: abortOnClose(reply)
})

/** Registration, login and logout, changing the password, and the account itself. */
const accounts: FastifyPluginAsyncTypebox<{ config: Config }> = async (app, { config }) => {
  const { passwords, sessions, skeletonIndex, sql } = app
  const tags = ['accounts']
  const secretFailures = [...bodyFailures, RateLimited, ...outages]

  /** Finds the user of a session. @throws {UserNotFound | SessionNotFound} */
  async function findActiveUser(userId: number) {
    const [user, member] = await Promise.all([findUserById(sql, userId), requireMember(sql, userId)])
    if (user === undefined) throw new UserNotFound()
    return { ...user, ...member }
  }

  /**
   * Checks the password of a user who is logged in. A wrong one counts as a guess.
   * @throws {InvalidCredentials}
   */
  async function checkPassword(
    reply: FastifyReply,
    user: { id: number; passwordHash: string },
    password: string,
    client: ReturnType<typeof clientOf>
  ): Promise<void> {
    await app.limitGuesses(reply, user.id, async () => {
      if (!(await passwords.verify(password, user.passwordHash, client))) throw new InvalidCredentials()
    })
  }

  const createAccount = RegisterRequest(config.PASSWORD_MIN_LENGTH)
  const register = {
    operationId: 'register',
    summary: 'Create an account and log in',
    tags,
    description:
      'Creates an account and starts a session. The nickname must be unique, and must not look like an ' +
      'existing one.',
    security: noSecurity,
    body: createAccount,
    response: {
      201: Account,
      ...failures(...validationFailures(createAccount), ...secretFailures, NicknameTaken, NicknameTooSimilar)
    }
  }
  app.post('/api/register', { schema: register }, async (request, reply) => {
    const { nickname, password } = request.body
    const client = clientOf(reply)
    const userId = await app.limitRegistrations(reply, async () => {
      if (skeletonIndex.isFarBehind) throw new Busy() // before hashing the password in vain
      const hash = await passwords.hash(password, client)
      const repairSequences = () => app.room.watch.repairSequences()
      return insertUser(sql, skeletonIndex, nickname, hash, repairSequences).catch(async (error) => {
        // The result may have been lost, and without a session the account must not keep the nickname. It is
        // not enough to find the account: it may wait for a standby that does not confirm it.
        if (error instanceof DatabaseUnavailable) {
          await undo(request, 'a registration', deleteNewUser(sql, nickname, hash))
        }
        throw error
      })
    })
    if (userId === 'taken') throw new NicknameTaken()
    if (userId === 'similar') throw new NicknameTooSimilar()
    const token = await sessions.start(userId, request.headers['user-agent']).catch(async (error) => {
      // Without a session the response is an error, so the account must not keep the nickname.
      await deleteUser(sql, userId)
      throw error
    })
    request.userId = userId
    return reply.code(201).send({ id: userId, userId, nickname, token })
  })

  /**
   * @returns the token of a new session
   * @throws {InvalidCredentials} if the user's password has changed since it was checked
   * @throws {Banned}
   */
  async function startCheckedSession(
    user: { id: number; passwordHash: string },
    userAgent: string | undefined
  ): Promise<string> {
    const token = await sessions.start(user.id, userAgent)
    try {
      // A password change or a ban ends only the sessions that it finds. A session that starts meanwhile has
      // to end itself.
      const [known, member] = await Promise.all([findUserById(sql, user.id), findMember(sql, user.id)])
      if (member?.restriction?.kind === 'ban') throw new Banned(member.restriction.until)
      if (known?.passwordHash !== user.passwordHash) throw new InvalidCredentials()
    } catch (error) {
      await sessions.end(token) // Nobody gets its token, so the user must not find it in the list.
      throw error
    }
    return token
  }

  const login = {
    operationId: 'login',
    summary: 'Log in',
    tags,
    description:
      'Starts a session. An unknown nickname and a wrong password get the same response, in the same time.',
    security: noSecurity,
    body: LoginRequest,
    response: {
      200: LoginResponse,
      ...failures(...validationFailures(LoginRequest), ...secretFailures, InvalidCredentials, Banned)
    }
  }
  app.post('/api/login', { schema: login }, async (request, reply) => {
    const { nickname, password } = request.body
    const client = clientOf(reply)
    const user = await findUser(sql, nickname)
    // Count by id, as for a password change, however the nickname is spelled.
    const account = user?.id ?? lookupNickname(nickname).normal
    const session = await app.limitGuesses(reply, account, async () => {
      const isRight = await passwords.verify(password, user?.passwordHash, client)
      if (user === undefined || !isRight) throw new InvalidCredentials()
      const token = await app.limitLogins(reply, user.id, () =>
        startCheckedSession(user, request.headers['user-agent'])
      )
      return { token, userId: user.id, nickname: user.nickname }
    })
    request.userId = session.userId
    return reply.code(200).send(session)
  })

  const logout = {
    operationId: 'logout',
    summary: 'Log out',
    tags,
    description: 'Ends the session of the token. Repeating it is harmless.',
    security: bearerSecurity,
    response: {
      204: NoContent,
      ...failures(...bodyFailures, ...tokenFailures, SessionRequired, RedisUnavailable, Busy)
    }
  }
  app.post('/api/logout', { schema: logout }, async (request, reply) => {
    const token = bearerToken(request)
    if (isApiToken(token)) throw new SessionRequired()
    request.userId = (await sessions.end(token)) ?? 0
    return reply.code(204).send(null)
  })

  const passwordChange = ChangePasswordRequest(config.PASSWORD_MIN_LENGTH)
  const changePassword = {
    operationId: 'changePassword',
    summary: 'Change your password',
    tags,
    description: 'Requires the current password. All other sessions of the user end.',
    security: bearerSecurity,
    body: passwordChange,
    response: {
      204: NoContent,
      ...failures(
        ...validationFailures(passwordChange),
        ...secretFailures,
        ...sessionFailures,
        InvalidCredentials
      )
    }
  }
  app.put(
    '/api/password',
    { onRequest: [app.authenticate, app.limitAccountManagement], schema: changePassword },
    async (request, reply) => {
      const { currentPassword, newPassword } = request.body
      const client = clientOf(reply)
      const user = await findActiveUser(request.userId)
      await checkPassword(reply, user, currentPassword, client)
      const newHash = await passwords.hash(newPassword, client)

      // Whatever fails, no older session survives under a new password, and an error means that the old
      // password still holds. So the other sessions end first, then the password changes, then sessions that
      // were started in between end. In another order, a crash after the change would leave all of them. If
      // the last step fails, or the result of the change is lost, the change is undone, so that the user can
      // try again.
      const endOthers = () => sessions.endOthers(user.id, bearerToken(request))
      await endOthers()
      try {
        const isChanged = await replacePassword(sql, user.id, user.passwordHash, newHash)
        if (!isChanged) throw new InvalidCredentials() // Another change was faster.
        await endOthers()
      } catch (error) {
        await undo(request, 'a password change', replacePassword(sql, user.id, newHash, user.passwordHash))
        throw error
      }
      return reply.code(204).send(null)
    }
  )

  const getMe = {
    operationId: 'getMe',
    summary: 'Get your account',
    tags,
    description: 'Shows whose token this is, and what that user may do. Works with API tokens too.',
    security: bearerSecurity,
    response: { 200: Me, ...failures(...authorFailures, ...outages) }
  }
  app.get('/api/me', { onRequest: app.authenticateAuthor, schema: getMe }, async (request, reply) => {
    const { id, nickname, role, createdAt, restriction } = await findActiveUser(request.userId)
    return reply.code(200).send({
      userId: id,
      nickname,
      role,
      createdAt: createdAt.toISOString(),
      restriction: restriction
        ? {
            kind: restriction.kind,
            until: restriction.until?.toISOString() ?? null,
            reason: restriction.reason ?? null
          }
        : null
    })
  })

  const deleteMe = {
    operationId: 'deleteMe',
    summary: 'Delete your account',
    tags,
    description:
      'Requires the password. Deletes the account with its messages, sessions, API tokens and reports ' +
      'for good. The last admin cannot be deleted.',
    security: bearerSecurity,
    body: DeleteAccountRequest,
    response: {
      204: NoContent,
      ...failures(
        ...validationFailures(DeleteAccountRequest),
        ...secretFailures,
        ...sessionFailures,
        InvalidCredentials,
        LastAdmin
      )
    }
  }
  app.delete(
    '/api/me',
    { onRequest: [app.authenticate, app.limitAccountManagement], schema: deleteMe },
    async (request, reply) => {
      const user = await findActiveUser(request.userId)
      await checkPassword(reply, user, request.body.password, clientOf(reply))
      if (user.isLastAdmin) throw new LastAdmin()
      // The other sessions end first, so that none of them posts during the deletion. The session of this
      // request stays until the account is gone, so that the user can try again after a failure.
      await sessions.endOthers(user.id, bearerToken(request))
      const ids: number[] = []
      await deleteAccount(sql, user, (batch) => {
        ids.push(...batch)
        publishDeletions(app.redis, batch, request.log)
      })
      // From here on the user's sessions are refused, even those still in Redis.
      await sessions.forget(user.id).catch((error: unknown) => {
        request.log.warn(`could not end the sessions of a deleted account: ${reasonOf(error)}`)
      })
      await confirmChange(app.room, sql, ids, undefined)
      return reply.code(204).send(null)
    }
  )
}
export default accounts
