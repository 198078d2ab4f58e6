import { milliseconds } from '../database/query.ts'
import { type ClientError, Muted, ReadOnly, SessionNotFound, SlowMode } from '../errors/catalogue.ts'

/**
 * Why the function `chat_admit` of the database refuses a post or an edit, as columns of a statement. `until`
 * is when that ends, if it does.
 */
export interface Refusal {
  refusal: 'banned' | 'muted' | 'read_only' | 'slow_mode'
  until_ms: number | null
  /** Of slow mode: the seconds until then, by the clock of the database. */
  wait: number | null
}

/** The columns of a `Refusal`, from the FROM item that `chat_admit` is named. */
export const refusalColumns = (admitted: string) => `${admitted}.refusal,
  case when ${admitted}.until is not null then ${milliseconds(`${admitted}.until`)} end as until_ms,
  case when ${admitted}.refusal = 'slow_mode'
    then ceil(extract(epoch from ${admitted}.until - clock_timestamp()))::bigint end as wait`

/** What the author is told. A ban ends all sessions, so the one of this request is gone as well. */
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
