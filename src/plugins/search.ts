import type { FastifyReply } from 'fastify'
import fp from 'fastify-plugin'
import type { Config } from '../config.ts'
import { Busy, ClientGone } from '../errors/catalogue.ts'
import { abortOnClose } from '../http/abort-on-close.ts'
import { FairQueue } from '../lib/fair-queue.ts'
import { parseLanguages } from '../lib/languages.ts'
import { waitFor } from '../lib/wait-for.ts'
import { SearchIndexer } from '../search/indexer.ts'
import { checkLanguages, Stemmer } from '../search/stemmer.ts'
import { connectionOptions } from './postgres.ts'

interface Search {
  stemmer: Stemmer
  indexer: SearchIndexer
  /** Searches that wait for their turn. */
  readonly waiting: number
  /**
   * Does the work of a search when it is the turn of its client.
   * @throws {Busy} when too many wait, or it has waited for too long
   */
  inTurn: <Result>(
    address: string,
    reply: FastifyReply,
    work: (signal: AbortSignal) => Promise<Result>
  ) => Promise<Result>
}

declare module 'fastify' {
  interface FastifyInstance {
    /** Undefined where search is off. */
    messageSearch?: Search
  }
}

/** How many searches may wait. */
const MAX_WAITING = 100
/** How long one waits and takes together; then it is given up. */
const TIMEOUT_MS = 2000

/** Decorates the instance with `messageSearch`, unless it is off, and indexes in the background. */
export default fp<{ config: Config; signal?: AbortSignal | undefined }>(
  async (app, { config, signal }) => {
    const languages = parseLanguages(config.SEARCH_LANGUAGES)
    if (languages === 'off') return
    const check = () => checkLanguages(app.sql, languages)
    await waitFor('PostgreSQL', config.BOOT_TIMEOUT, app.log, check, { signal })
    const stemmer = new Stemmer(languages)
    const indexer = new SearchIndexer({
      query: app.sql,
      connection: connectionOptions(config),
      stemmer,
      languages,
      knownSeq: () => app.room.timeline.seq,
      log: app.log
    })
    // A fifth of the connections, besides the third that reads older messages.
    const concurrency = Math.ceil(config.POSTGRES_POOL / 5)
    const gate = new FairQueue({ concurrency, maxWaiting: MAX_WAITING })
    app.decorate('messageSearch', {
      stemmer,
      indexer,
      get waiting() {
        return gate.waiting
      },
      inTurn: async (address, reply, work) => {
        const signal = abortOnClose(reply, TIMEOUT_MS)
        return gate
          .run(address, signal, () => work(signal))
          .catch((error: unknown) => {
            throw error instanceof ClientGone && !reply.raw.destroyed ? new Busy() : error
          })
      }
    })
    app.addHook('onReady', async () => indexer.start())
    app.addHook('onClose', async () => indexer.stop())
  },
  { name: 'search', dependencies: ['postgres', 'room'] }
)
