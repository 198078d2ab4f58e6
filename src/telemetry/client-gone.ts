import fp from 'fastify-plugin'

// Shared, because each new error has a stack.
const GONE = new Error('the connection was closed before the response was sent')

/**
 * Lets a request end when its connection closes before the response is sent; its status is 499 if the
 * response had not begun. Fastify runs `onResponse` and logs the request when the response emits `finish` or
 * `error`, and then stops listening, but neither happens here. Its hook `onRequestAbort` does not run once
 * the body of the request has been read.
 */
export default fp(
  async (app) => {
    app.addHook('onRequest', (_request, { raw }, done) => {
      raw.on('close', () => {
        if (raw.listenerCount('error') === 0) return // It has ended.
        if (!raw.headersSent) raw.statusCode = 499
        raw.emit('error', GONE)
      })
      done()
    })
  },
  { name: 'client-gone' }
)
