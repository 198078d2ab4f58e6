import fp from 'fastify-plugin'
import { Follower } from '../chat/follower.ts'
import { EventStreams } from '../chat/streams.ts'
import { Timeline } from '../chat/timeline.ts'
import { trimRegularly } from '../chat/retention.ts'
import { MessageWriter } from '../chat/writer.ts'
import type { Config } from '../config.ts'
import { connectionOptions } from './postgres.ts'

interface Room { timeline: Timeline, follower: Follower, writer: MessageWriter, streams: EventStreams }

declare module 'fastify' {
  interface FastifyInstance { room: Room }
}

/** Decorates the instance with `room`: the log as this process knows it, and the ways into and out of it. */
export default fp<{ config: Config }>(async (app, { config }) => {
  const timeline = new Timeline()
  const follower = new Follower(timeline, connectionOptions(config), app.log)
  const writer = new MessageWriter(app.pipeline, app.sql, timeline, follower)
  const streams = new EventStreams(timeline, follower, app.sql, config.MAX_STREAMS)
  app.decorate('room', { timeline, follower, writer, streams })

  const stopTrimming = trimRegularly(app.sql, config, app.log)
  app.addHook('preClose', async () => {
    timeline.close()
    streams.close()
  })
  app.addHook('onClose', async () => {
    stopTrimming()
    await follower.stop()
  })
  await follower.start()
}, { name: 'room', dependencies: ['postgres'] })
