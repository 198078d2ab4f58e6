import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Config } from '../config.ts'

/**
 * Sends traces to `OTEL_EXPORTER_OTLP_ENDPOINT`; where it is unset, not even the modules for it are loaded.
 */
export default fp<{ config: Config }>(tracing, { name: 'tracing' })

// A declaration, because tsc would not find the `.ts` in an arrow function (seen in 5.9).
async function tracing(app: FastifyInstance, { config }: { config: Config }): Promise<void> {
  if (config.OTEL_EXPORTER_OTLP_ENDPOINT === undefined) return
  const { startTelemetry } = await import('./opentelemetry.ts')
  startTelemetry(app, config.OTEL_EXPORTER_OTLP_ENDPOINT)
}
