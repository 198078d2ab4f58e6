import fp from 'fastify-plugin'

// OWASP REST Security Cheat Sheet, "Security Headers", for browsers that open a response as a page.
// Strict-Transport-Security is up to whatever terminates TLS.
export const HEADERS = {
  'cache-control': 'no-store',
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
  'cross-origin-resource-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY'
}

/**
 * Marks every response as data: not to be cached, framed, sniffed or run. Routes may override these headers.
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
