import fp from 'fastify-plugin'

// OWASP REST Security Cheat Sheet, "Security Headers"; all are for browsers that open an answer as if it were
// a page. Strict-Transport-Security is for whoever ends TLS to say.
export const HEADERS = {
  'cache-control': 'no-store',
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
  'cross-origin-resource-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY'
}

/**
 * Every answer says that it is data: not to be kept, framed, guessed at or run. A route may say otherwise of
 * its own.
 */
export default fp(
  async (app) => {
    app.addHook('onRequest', (_request, reply, done) => {
      reply.headers(HEADERS)
      done()
    })
  },
  { name: 'security-headers' }
)
