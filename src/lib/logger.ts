import type { FastifyBaseLogger } from 'fastify'

/** What the domain needs of a logger. Fastify's and pino's both fit. */
export type Log = Pick<FastifyBaseLogger, 'info' | 'warn' | 'error'>
