import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { noSecurity } from '../../schemas/openapi.ts'
import { SearchQuery, SearchResult } from '../../schemas/search.ts'
import { Busy, DatabaseUnavailable, failures, validationFailures } from '../errors/catalogue.ts'
import { searchMessages } from '../search/search.ts'

/** Searching the messages, which anyone may; there is no such route where search is off. */
const searchRoutes: FastifyPluginAsyncTypebox = async (app) => {
  const { sql, messageSearch: search } = app
  if (search === undefined) return

  const schema = {
    operationId: 'searchMessages',
    summary: 'Search messages',
    tags: ['messages'],
    description:
      'Returns the newest messages that contain all words of `q`, ascending by id. Words match by their ' +
      'stems, quoted phrases exactly, and the last word also by its beginning. New and edited messages are ' +
      'found within two seconds.',
    security: noSecurity,
    querystring: SearchQuery,
    response: {
      200: SearchResult,
      ...failures(...validationFailures(SearchQuery), DatabaseUnavailable, Busy)
    }
  }
  app.get('/api/search', { schema }, async (request, reply) => {
    const { messages, cursor, isComplete, next } = await search.inTurn(
      request.clientAddress,
      reply,
      (signal) => searchMessages(sql, search.stemmer, request.query, signal)
    )
    reply.header('x-event-cursor', cursor)
    if (next !== undefined) reply.header('x-search-next', next)
    if (!isComplete) reply.header('x-search-incomplete', 'true')
    return reply.code(200).send(messages)
  })
}
export default searchRoutes
