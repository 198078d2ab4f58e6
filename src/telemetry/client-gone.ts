import fp from 'fastify-plugin'

declare module 'fastify' {
  interface FastifyRequest {
    hasEnded: boolean
  }
}

// As Node reports it (`stream.finished`). Shared, because each new error has a stack.
const CLOSED = Object.assign(new Error('Premature close'), { code: 'ERR_STREAM_PREMATURE_CLOSE' })

/**
 * Lets a request end when its connection closes before the response is sent; its status is 499 if the
 * response had not begun and was no error. Fastify runs `onResponse` and logs the request when the response
 * emits `finish` or `error`, but neither happens here. Its hook `onRequestAbort` does not run once the body
 * has been read.
 */
export default fp(
  async (app) => {
    app.decorateRequest('hasEnded', false)
    app.addHook('onRequest', (request, { raw }, done) => {
      raw.on('close', () => {
        if (request.hasEnded) return
        if (!raw.headersSent && raw.statusCode < 400) raw.statusCode = 499
        raw.emit('error', CLOSED)
      })
      done()
    })
    app.addHook('onResponse', (request, _reply, done) => {
      request.hasEnded = true
      done()
    })
  },
  { name: 'client-gone' }
)
