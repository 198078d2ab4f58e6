import fp from 'fastify-plugin'
import { Follower } from '../chat/follower.ts'
import { LogChannel } from '../chat/log-channel.ts'
import { LogWatch } from '../chat/log-watch.ts'
import { LongPolls } from '../chat/long-polls.ts'
import { EventStreams } from '../chat/streams.ts'
import { Timeline } from '../chat/timeline.ts'
import { trimRegularly } from '../chat/retention.ts'
import { MessageWriter } from '../chat/writer.ts'
import type { Config } from '../config.ts'
import { FairQueue } from '../lib/fair-queue.ts'
import { OnlineCount } from '../moderation/online.ts'
import { connectionOptions } from './postgres.ts'
import { createClient } from './redis.ts'

interface Room {
  timeline: Timeline
  watch: LogWatch
  channel: LogChannel
  follower: Follower
  writer: MessageWriter
  streams: EventStreams
  longPolls: LongPolls
  /** The queue in which reads of older messages take turns. */
  history: FairQueue
  /** The open event streams of all replicas. */
  online: OnlineCount
}

declare module 'fastify' {
  interface FastifyInstance {
    room: Room
  }
}

/**
 * How many streams may read the log at a time. More of them make the turns of the event loop longer, and Node
 * accepts one connection per turn: while 100 streams resumed every second, a new connection waited 1.9 s with
 * four, and 0.4 s with two.
 */
const LOG_READS = 2

/** How many pages of older messages may wait to be read. */
const MAX_WAITING_READS = 500

/** Decorates the instance with `room`: the event log in memory, and everything that reads and writes it. */
export default fp<{ config: Config }>(
  async (app, { config }) => {
    const timeline = new Timeline()
    const watch = new LogWatch(app.sql, timeline, app.log)
    const online: OnlineCount = new OnlineCount(app.redis, () => streams.size)
    const channel = new LogChannel({
      redis: app.redis,
      createSubscriber: () => createClient(config, () => false).client,
      hasPeers: () => online.hasPeers,
      log: app.log
    })
    const follower = new Follower(
      timeline,
      connectionOptions(config),
      app.log,
      () => watch.problem === undefined,
      channel
    )
    watch.onRepaired = () => follower.caughtUp()
    follower.onReconnected = () => app.poolConnections.retire()
    const writer = new MessageWriter(app.pipeline, app.sql, timeline, follower, watch)
    channel.onPublished = (replica) => writer.turns.heard(replica)
    // A third of the connections, so that posts, accounts and readiness checks always find a free one.
    const concurrency = Math.ceil(config.POSTGRES_POOL / 3)
    const history = new FairQueue({ concurrency, maxWaiting: MAX_WAITING_READS })
    const longPolls = new LongPolls(timeline, config.MAX_LONG_POLLS, config.MAX_LONG_POLLS_PER_ADDRESS)
    const streams = new EventStreams({
      timeline,
      follower,
      query: app.sql,
      concurrency: LOG_READS,
      limit: config.MAX_STREAMS,
      limitPerAddress: config.MAX_STREAMS_PER_ADDRESS
    })
    app.decorate('room', { timeline, watch, channel, follower, writer, streams, longPolls, history, online })

    const stopTrimming = trimRegularly(app.sql, config, app.log)
    app.addHook('preClose', async () => {
      longPolls.close()
      streams.close()
    })
    app.addHook('onClose', async () => {
      stopTrimming()
      await online.stop()
      watch.stop()
      await follower.stop()
      channel.stop()
    })
    watch.start()
    online.start()
    await follower.start()
  },
  { name: 'room', dependencies: ['postgres', 'redis'] }
)
