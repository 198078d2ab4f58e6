import Fastify, { type FastifyBaseLogger, type FastifyInstance } from 'fastify'
import type { Config } from './config.ts'
import authenticate from './plugins/authenticate.ts'
import errors, { answerClientError, answerError } from './plugins/errors.ts'
import input from './plugins/input.ts'
import postgres from './plugins/postgres.ts'
import redis from './plugins/redis.ts'
import { RequestLog, requestId } from './requests.ts'
import accountRoutes from './routes/accounts.ts'
import healthRoutes from './routes/health.ts'
import messageRoutes from './routes/messages.ts'
import { watchRoutes } from './routes/method-not-allowed.ts'

/** Builds the whole service as in production, not yet listening; while it becomes ready it waits for both engines and migrates the database. */
export function buildApp (config: Config, logger: FastifyBaseLogger): FastifyInstance {
  const logController = new RequestLog({ requestIdLogLabel: 'requestId' })
  const app = Fastify({
    loggerInstance: logger, logController, genReqId: requestId,
    bodyLimit: 64 * 1024, requestTimeout: 10_000, pluginTimeout: 0, return503OnClosing: false,
    frameworkErrors: (error, request, reply) => {
      answerError(error, request, reply)
      logController.requestCompleted(undefined, request, reply)
    },
    clientErrorHandler: answerClientError
  })
  app.addHook('onRequest', async (request, reply) => { reply.header('x-request-id', request.id) })

  app.register(input)
  app.register(errors)
  app.register(postgres, { config })
  app.register(redis, { config })
  app.register(authenticate)

  const methodNotAllowed = watchRoutes(app)
  app.register(healthRoutes)
  app.register(accountRoutes, { config })
  app.register(messageRoutes)
  app.register(methodNotAllowed)
  return app
}
