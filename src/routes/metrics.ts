import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Metrics } from '../../schemas/metrics.ts'
import { failures } from '../errors/catalogue.ts'

/** What this process does, for Prometheus; inside the cluster alone, because the Ingress leads to `/api`. */
const metrics: FastifyPluginAsyncTypebox = async (app) => {
  const { registry } = app.metrics
  const schema = {
    operationId: 'readMetrics',
    summary: 'What this process does',
    tags: ['health'],
    response: { 200: Metrics, ...failures() }
  }
  app.get('/metrics', { schema }, async (_request, reply) =>
    reply
      .code(200)
      .header('content-type', registry.contentType)
      .send(await registry.metrics())
  )
}
export default metrics
