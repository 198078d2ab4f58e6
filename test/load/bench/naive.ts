import fastifyPostgres from '@fastify/postgres'
import fastifyRedis from '@fastify/redis'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import Fastify from 'fastify'
import { Redis } from 'ioredis'
import { PostMessageRequest, Message, ListMessagesQuery } from '../../../schemas/messages.ts'

// What most people would write: one SQL statement for each step, as the Go service does.

const {
  POSTGRES_HOST,
  POSTGRES_PORT,
  POSTGRES_DB,
  POSTGRES_USER,
  POSTGRES_PASSWORD,
  REDIS_PORT,
  REDIS_PASSWORD,
  HTTP_PORT
} = process.env

const COLUMNS =
  'm.id, m.user_id as "userId", u.nickname, m.text, m.created_at as "createdAt" from chat_message m join chat_user u on u.id = m.user_id'

const routes: FastifyPluginAsyncTypebox = async (app) => {
  app.get(
    '/api/messages',
    { schema: { querystring: ListMessagesQuery, response: { 200: Type.Array(Message) } } },
    async ({ query: { limit, after_id: after, before_id: before } }) => {
      if (after !== undefined) {
        return (
          await app.pg.query(`select ${COLUMNS} where m.id > $1 order by m.id limit $2`, [after, limit])
        ).rows
      }
      if (before !== undefined) {
        return (
          await app.pg.query(`select ${COLUMNS} where m.id < $1 order by m.id desc limit $2`, [before, limit])
        ).rows.reverse()
      }
      return (await app.pg.query(`select ${COLUMNS} order by m.id desc limit $1`, [limit])).rows.reverse()
    }
  )

  app.post(
    '/api/messages',
    { schema: { body: PostMessageRequest, response: { 201: Message } } },
    async (request, reply) => {
      const userId = await app.redis.get(`session:${request.headers.authorization?.slice('Bearer '.length)}`)
      if (userId === null) throw Object.assign(new Error('session not found'), { statusCode: 401 })
      const {
        rows: [user]
      } = await app.pg.query('select id, nickname from chat_user where id = $1', [userId])
      if (!user) throw Object.assign(new Error('user not found'), { statusCode: 401 })
      const {
        rows: [message]
      } = await app.pg.query(
        'insert into chat_message (user_id, text, created_at) values ($1, $2, now()) returning id, text, created_at as "createdAt"',
        [user.id, request.body.text.trim()]
      )
      return reply.code(201).send({ ...message, userId: user.id, nickname: user.nickname })
    }
  )
}

const app = Fastify({
  ajv: { customOptions: { keywords: ['normalize', 'visible', 'decimalIntegers', 'errorMessages'] } }
})
app.register(fastifyPostgres, {
  host: POSTGRES_HOST,
  port: Number(POSTGRES_PORT),
  database: POSTGRES_DB,
  user: POSTGRES_USER,
  password: POSTGRES_PASSWORD
})
app.register(fastifyRedis, {
  client: new Redis({ port: Number(REDIS_PORT), ...(REDIS_PASSWORD && { password: REDIS_PASSWORD }) })
})
app.register(routes)
app.get('/health/readyz', async () => ({ status: 'ok' }))
await app.listen({ port: Number(HTTP_PORT), host: '127.0.0.1' })
process.on('SIGTERM', () => process.exit())
