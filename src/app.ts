import underPressure from '@fastify/under-pressure'
import fastJson from 'fast-json-stringify'
import Fastify, { type FastifyBaseLogger, type FastifyInstance } from 'fastify'
import type { Config } from './config.ts'
import { answerError, clientErrorResponse } from './errors/handler.ts'
import { Busy } from './errors/catalogue.ts'
import { Connections } from './http/connections.ts'
import authenticate from './plugins/authenticate.ts'
import clientAddress from './plugins/client-address.ts'
import clientGone from './telemetry/client-gone.ts'
import authorize from './plugins/authorize.ts'
import cors from './plugins/cors.ts'
import drain from './plugins/shutdown.ts'
import httpRules from './plugins/http-rules.ts'
import input, { parseQuery } from './plugins/validation.ts'
import listener from './plugins/listener.ts'
import metrics from './telemetry/metrics.ts'
import openapi from './plugins/openapi.ts'
import passwords from './plugins/passwords.ts'
import postgres from './plugins/postgres.ts'
import rateLimits from './plugins/rate-limits.ts'
import redis from './plugins/redis.ts'
import room from './plugins/room.ts'
import search from './plugins/search.ts'
import securityHeaders, { HEADERS } from './plugins/security-headers.ts'
import sessions from './plugins/sessions.ts'
import skeletonIndex from './plugins/skeleton-index.ts'
import tracing from './telemetry/plugin.ts'
import { RequestLog } from './telemetry/request-log.ts'
import { requestId } from './lib/request-id.ts'
import accountRoutes from './routes/accounts.ts'
import docsRoutes from './routes/docs.ts'
import eventRoutes from './routes/events.ts'
import healthRoutes from './routes/health.ts'
import messageRoutes from './routes/messages.ts'
import { methodNotAllowed, otherMethods, routerOptions } from './plugins/method-not-allowed.ts'
import moderationRoutes from './routes/moderation.ts'
import metricsRoutes from './routes/metrics.ts'
import openapiRoutes from './routes/openapi.ts'
import roomRoutes from './routes/room.ts'
import searchRoutes from './routes/search.ts'
import sessionRoutes from './routes/sessions.ts'
import tokenRoutes from './routes/tokens.ts'
import webRoutes from './routes/web.ts'
import { createRequestLogger } from './telemetry/request-logger.ts'

/**
 * Builds the whole service as in production, not yet listening. `ready` waits for both engines and migrates
 * the database.
 * @param signal makes `ready` reject with the signal's reason
 */
export function buildApp(config: Config, logger: FastifyBaseLogger, signal?: AbortSignal): FastifyInstance {
  const logController = new RequestLog(config.LOG_REQUESTS)
  const connections = new Connections(config.MAX_CONNECTIONS)
  const app = Fastify({
    loggerInstance: logger,
    logController,
    genReqId: requestId,
    childLoggerFactory: createRequestLogger,
    clientErrorHandler: (error, socket) => connections.refuse(socket, clientErrorResponse(error)),
    bodyLimit: 64 * 1024,
    pluginTimeout: 0,
    return503OnClosing: false,
    routerOptions: { ...routerOptions, querystringParser: parseQuery },
    serverFactory: (handle) =>
      connections.createServer(
        {
          keepAliveTimeout: config.KEEP_ALIVE_TIMEOUT * 1000,
          // 10 s for the whole request. Node needs both limits, and by default checks them only every 30 s.
          requestTimeout: 10_000,
          headersTimeout: 10_000,
          connectionsCheckingInterval: 1000,
          // Checked by httpRules instead, because Node would answer without a body.
          requireHostHeader: false
        },
        handle
      ),
    frameworkErrors: (error, request, reply) => {
      answerError(error, request, reply.headers(HEADERS))
      logController.requestCompleted(undefined, request, reply)
    }
  })
  app.setErrorHandler(answerError)
  // Serialisers are compiled on first use. To compile all of them takes 0.1 s of CPU at each start, and most
  // of the declared responses are errors, which src/errors/handler.ts serialises.
  app.setSerializerCompiler(({ schema }) => {
    let serialize: ((data: unknown) => string) | undefined
    return (data) => (serialize ??= fastJson(schema as object))(data)
  })
  app.register(clientGone)
  app.register(tracing, { config })
  app.register(clientAddress, { config })
  app.register(securityHeaders)
  app.register(metrics)
  app.addHook('onRequest', (request, reply, done) => {
    reply.header('x-request-id', request.id)
    done()
  })
  app.register(otherMethods)
  app.register(httpRules, { connections })
  app.register(cors, { config })
  app.register(input)
  app.register(postgres, { config, signal })
  app.register(skeletonIndex)
  app.register(redis, { config, signal })
  app.register(sessions)
  app.register(authenticate)
  app.register(authorize)
  app.register(rateLimits, { config })
  app.register(room, { config })
  app.register(search, { config, signal })
  app.register(passwords, { config })
  app.register(openapi)
  app.register(drain, { connections }) // after the plugins that requests in flight still need
  app.register(listener) // after drain, which waits for its connections too

  app.register(healthRoutes)
  app.register(eventRoutes)
  app.register(metricsRoutes)
  // Outside as well: the page itself says that the service is busy.
  if (config.WEB_CLIENT === 'on') app.register(webRoutes)
  app.register(async (app) => {
    // Shed load when the event loop lags. Health checks, metrics and streams are exempt.
    await app.register(underPressure, {
      maxEventLoopDelay: config.MAX_EVENT_LOOP_DELAY,
      // Infinity: no measurement yet, or only a single long pause, as at the start.
      pressureHandler: async (_request, _reply, _type, delay) => {
        if (delay !== Infinity) throw new Busy()
      }
    })
    app.register(accountRoutes, { config })
    app.register(sessionRoutes)
    app.register(tokenRoutes)
    app.register(messageRoutes, { config })
    app.register(searchRoutes)
    app.register(roomRoutes)
    app.register(moderationRoutes)
    app.register(openapiRoutes)
    app.register(docsRoutes)
  })
  app.register(methodNotAllowed)
  return app
}
