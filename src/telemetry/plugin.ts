import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Config } from '../config.ts'

/**
 * Sends traces to `OTEL_EXPORTER_OTLP_ENDPOINT`. If it is unset, the OpenTelemetry modules are not even
 * loaded.
 */
export default fp<{ config: Config }>(tracing, { name: 'tracing' })

// Not an arrow function, in which tsc does not rewrite the `.ts` of the import (seen in 5.9).
async function tracing(app: FastifyInstance, { config }: { config: Config }): Promise<void> {
  if (config.OTEL_EXPORTER_OTLP_ENDPOINT === undefined) return
  const { startTelemetry } = await import('./opentelemetry.ts')
  startTelemetry(app, config.OTEL_EXPORTER_OTLP_ENDPOINT)
}
