import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Account, CreateAccount, Login, Session } from '../../schemas/accounts.ts'
import { errorAnswers, NoContent } from '../../schemas/errors.ts'
import { createPasswords } from '../accounts/passwords.ts'
import { endSession, startSession } from '../accounts/sessions.ts'
import { deleteUser, findUser, insertUser } from '../accounts/users.ts'
import type { Config } from '../config.ts'
import { InvalidCredentials, NicknameTaken } from '../errors.ts'
import { bearerToken } from '../plugins/authenticate.ts'
import { answerOver } from '../requests.ts'

/** Registration, login and logout. */
const accounts: FastifyPluginAsyncTypebox<{ config: Config }> = async (app, { config }) => {
  const { redis, sql } = app
  const passwords = createPasswords(config.BCRYPT_COST)
  app.addHook('onClose', () => passwords.close())
  const schema = { body: CreateAccount(config.PASSWORD_MIN_LENGTH), response: { 201: Account, ...errorAnswers } }

  app.post('/api/register', { schema }, async (request, reply) => {
    const { nickname, password } = request.body
    const userId = await insertUser(sql, nickname, await passwords.hash(password, answerOver(reply)))
    if (userId === undefined) throw new NicknameTaken()
    const token = await startSession(redis, userId).catch(async (error) => {
      // Without a session the answer is an error, and then no account may be left that holds the nickname.
      await deleteUser(sql, userId)
      throw error
    })
    return reply.code(201).send({ id: userId, userId, nickname, token })
  })

  app.post('/api/login', { schema: { body: Login, response: { 200: Session, ...errorAnswers } } }, async (request, reply) => {
    const user = await findUser(sql, request.body.nickname)
    const matches = await passwords.verify(request.body.password, user?.passwordHash, answerOver(reply))
    if (user === undefined || !matches) throw new InvalidCredentials()
    return reply.code(200).send({ token: await startSession(redis, user.id), userId: user.id, nickname: user.nickname })
  })

  app.post('/api/logout', { schema: { response: { 204: NoContent, ...errorAnswers } } }, async (request, reply) => {
    await endSession(redis, bearerToken(request))
    return reply.code(204).send(null)
  })
}
export default accounts
