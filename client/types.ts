import type { components, paths } from './api.d.ts'

export type Schemas = components['schemas']
export type Message = Schemas['Message']
export type Room = Schemas['Room']

/** The path of a route, as the OpenAPI document spells it: `/api/messages/{id}`. */
export type Path = keyof paths
/** The methods of a path, in lower case. */
export type MethodOf<P extends Path> = {
  [M in keyof paths[P]]: paths[P][M] extends { responses: unknown } ? M : never
}[keyof paths[P]] &
  string

type Parameters<O, Place extends string> = O extends { parameters: { [K in Place]?: infer T } }
  ? [Exclude<T, undefined>] extends [never]
    ? unknown
    : Exclude<T, undefined>
  : unknown
type Body<O> = O extends { requestBody: { content: { 'application/json': infer T } } } ? T : unknown

/** What a route takes: the parameters of its path and query and the properties of its body, as one object. */
export type Input<P extends Path, M extends MethodOf<P>> = object &
  Parameters<paths[P][M], 'path'> &
  Parameters<paths[P][M], 'query'> &
  Body<paths[P][M]>

type ContentOf<R> = R extends { content: infer C } ? C[keyof C] : undefined
/** What a route answers when it succeeds. */
export type Output<P extends Path, M extends MethodOf<P>> = paths[P][M] extends { responses: infer R }
  ? { [Status in keyof R & (200 | 201 | 204)]: ContentOf<R[Status]> }[keyof R & (200 | 201 | 204)]
  : never

export interface RequestOptions {
  /** Ends the request; it then rejects with the reason of the signal. */
  signal?: AbortSignal | undefined
}

/** The options of a route: those that take an `Idempotency-Key` have one for it. */
export type OptionsOf<P extends Path, M extends MethodOf<P>> = RequestOptions &
  ('Idempotency-Key' extends keyof Parameters<paths[P][M], 'header'>
    ? { idempotencyKey?: string | undefined }
    : unknown)

/** A method that calls one route. */
export type Method<P extends Path, M extends MethodOf<P>> =
  object extends Input<P, M>
    ? (input?: Input<P, M>, options?: OptionsOf<P, M>) => Promise<Output<P, M>>
    : (input: Input<P, M>, options?: OptionsOf<P, M>) => Promise<Output<P, M>>

export interface ClientOptions {
  /** Where the service is, such as `https://chat.example`. Empty means the origin of the page. */
  url: string | URL
  /** A session token or an API token; it can be set later. */
  token?: string | undefined
  /** For how long a post is retried, in milliseconds. Default: 30,000. */
  retryForMs?: number
  /** How long one attempt may take, in milliseconds, besides the `wait` of a long poll. Default: 15,000. */
  timeoutMs?: number
  /** Replaces the global `fetch`. */
  fetch?: typeof globalThis.fetch
}

/** An event of the room, with a cursor from which `follow({ since })` can go on. */
export type FollowEvent = (
  | Exclude<Schemas['Event'], { type: 'reset' }>
  /** The newest messages. The first event, unless `since` was given. */
  | { type: 'list'; messages: Message[] }
  /** Some events are not known any more: these messages replace all that came before. */
  | { type: 'reset'; messages: Message[] }
) & { cursor: number }

export interface FollowOptions {
  /** Ends the iteration, without an error. */
  signal?: AbortSignal | undefined
  /** The cursor of the last event that was handled. Without it, the first event is a `list`. */
  since?: number | undefined
  /** How many messages a `list` or a `reset` has: 1 to 200, default 50. */
  limit?: number
  /** Called after each failure, with how long the iterator waits before it goes on. */
  onRetry?: (error: Error, waitMs: number) => void
  /** A stream that sends nothing at first for so long is held back by a proxy. Default: 5,000. */
  firstByteMs?: number
  /** A stream that is silent for so long is dead; the service sends something every 15 s. Default: 40,000. */
  silenceMs?: number
  /** For how long it polls before it tries a stream again. Default: 60,000. */
  pollForMs?: number
  /** How long a poll waits, in seconds: 1 to 25, default 10. Only then it shows edits and deletions. */
  waitSeconds?: number
}
