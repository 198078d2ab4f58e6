import fp from 'fastify-plugin'
import { SkeletonIndex } from '../accounts/skeleton-index.ts'

declare module 'fastify' {
  interface FastifyInstance {
    skeletonIndex: SkeletonIndex
  }
}

/** Decorates the instance with `skeletonIndex`, which runs in the background once the service is ready. */
export default fp(
  async (app) => {
    const index = new SkeletonIndex(app.sql, app.log)
    app.decorate('skeletonIndex', index)
    app.addHook('onReady', async () => index.start())
    app.addHook('onClose', async () => index.stop())
  },
  { name: 'skeleton-index', dependencies: ['postgres'] }
)
