import { Type } from '@sinclair/typebox'

/** Format: https://prometheus.io/docs/instrumenting/exposition_formats/. */
export const Metrics = {
  description: 'Metrics in the Prometheus text format.',
  content: {
    'text/plain; version=0.0.4; charset=utf-8': {
      schema: Type.String(),
      example:
        '# HELP chat_event_streams Open event streams.\n' +
        '# TYPE chat_event_streams gauge\n' +
        'chat_event_streams 17\n'
    }
  }
}
