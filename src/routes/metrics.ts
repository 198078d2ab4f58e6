import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Metrics } from '../../schemas/metrics.ts'
import { noSecurity } from '../../schemas/openapi.ts'
import { failures } from '../errors/catalogue.ts'

/** Metrics for Prometheus. Not public, because the Ingress routes only `/api`. */
const metrics: FastifyPluginAsyncTypebox = async (app) => {
  const { registry } = app.metrics
  const schema = {
    operationId: 'getMetrics',
    summary: 'Metrics of this replica',
    tags: ['health'],
    description:
      'In the Prometheus text format. The path is not below `/api`, so an Ingress for `/api` does not ' +
      'expose it.',
    security: noSecurity,
    response: { 200: Metrics, ...failures() }
  }
  let collected: Promise<string> | undefined
  // Concurrent scrapes share one collection.
  const collect = () => {
    collected ??= registry.metrics().finally(() => {
      collected = undefined
    })
    return collected
  }
  app.get('/metrics', { schema }, async (_request, reply) =>
    reply
      .code(200)
      .header('content-type', registry.contentType)
      .send(await collect())
  )
}
export default metrics
