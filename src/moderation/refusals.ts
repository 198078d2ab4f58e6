import { milliseconds } from '../database/query.ts'
import { type ClientError, Muted, ReadOnly, SessionNotFound, SlowMode } from '../errors/catalogue.ts'

/**
 * Why the SQL function `chat_admit` refuses a post or an edit, and when that ends, if it does.
 */
export interface Refusal {
  refusal: 'banned' | 'muted' | 'read_only' | 'slow_mode'
  until_ms: number | null
  /** Slow mode: seconds until the next post is allowed, by the database's clock. */
  wait: number | null
}

/** The columns of a `Refusal`. @param admitted the alias of `chat_admit` in the FROM clause */
export const refusalColumns = (admitted: string) => `${admitted}.refusal,
  case when ${admitted}.until is not null then ${milliseconds(`${admitted}.until`)} end as until_ms,
  case when ${admitted}.refusal = 'slow_mode'
    then ceil(extract(epoch from ${admitted}.until - clock_timestamp()))::bigint end as wait`

/** The error for the author. A ban ends all sessions, so the session of this request is gone too. */
export function toError({ refusal, until_ms: untilMs, wait }: Refusal): ClientError {
  switch (refusal) {
    case 'banned':
      return new SessionNotFound()
    case 'muted':
      return new Muted(untilMs === null ? undefined : new Date(untilMs))
    case 'read_only':
      return new ReadOnly()
    case 'slow_mode':
      return new SlowMode(wait ?? 1)
  }
}
