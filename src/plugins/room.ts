import fp from 'fastify-plugin'
import { Follower } from '../chat/follower.ts'
import { LogWatch } from '../chat/log-watch.ts'
import { EventStreams } from '../chat/streams.ts'
import { Timeline } from '../chat/timeline.ts'
import { trimRegularly } from '../chat/retention.ts'
import { MessageWriter } from '../chat/writer.ts'
import type { Config } from '../config.ts'
import { connectionOptions } from './postgres.ts'

interface Room { timeline: Timeline, watch: LogWatch, follower: Follower, writer: MessageWriter, streams: EventStreams }

declare module 'fastify' {
  interface FastifyInstance { room: Room }
}

/** Decorates the instance with `room`: the log as this process knows it, and the ways into and out of it. */
export default fp<{ config: Config }>(async (app, { config }) => {
  const timeline = new Timeline()
  const watch = new LogWatch(app.sql, timeline, app.log)
  const follower = new Follower(timeline, connectionOptions(config), app.log, () => watch.problem === undefined)
  const writer = new MessageWriter(app.pipeline, app.sql, timeline, follower, watch)
  const streams = new EventStreams(timeline, follower, app.sql, config.MAX_STREAMS)
  app.decorate('room', { timeline, watch, follower, writer, streams })

  const stopTrimming = trimRegularly(app.sql, config, app.log)
  app.addHook('preClose', async () => {
    timeline.close()
    streams.close()
  })
  app.addHook('onClose', async () => {
    stopTrimming()
    watch.stop()
    await follower.stop()
  })
  watch.start()
  await follower.start()
}, { name: 'room', dependencies: ['postgres'] })
