import { readEvents, type StreamEvent } from '../helpers/events.ts'
import type { Poller, Session, Stream } from './checker.ts'
import type { Message, World } from './world.ts'

// Most streams are cut soon, and some live through one fault after the other.
const SHORT_MS = 3000
const LONG_MS = 30_000

/**
 * Asks for what came after the last message that it saw, of any replica. @param wait whether the answer may
 * wait for a message
 */
export async function poller(world: World, reader: Poller, wait: boolean): Promise<void> {
  const random = world.random(reader.name)
  while (!world.ended.signal.aborted) {
    const path = `/api/messages?after_id=${reader.seen.at(-1)?.id ?? 0}&limit=${random.between(1, 200)}${wait ? `&wait=${random.between(1, 5)}` : ''}`
    const cut = world.cutting && random.chance(0.1)
    const answer = await world.ask(random.pick(world.urls), {
      path,
      cutAfterMs: cut ? random.between(1, wait ? 2000 : 20) : undefined
    })
    if (answer?.status === 200) {
      reader.seen.push(...(answer.body as Message[]).map(({ id, text }) => ({ id, text })))
    } else if (answer) world.find('error', `${path} answered ${answer.status}`)
    await world.sleep(wait && answer ? 0 : random.between(10, 200))
  }
}

/**
 * Reads a list, then its events, is cut again and again, and goes on at any replica after the last event that
 * it saw.
 */
export async function stream(world: World, { name, sessions }: Stream): Promise<void> {
  const random = world.random(name)
  let session: Session | undefined
  while (!world.ended.signal.aborted) {
    const url = random.pick(world.urls)
    // A page that is opened anew, now and then.
    if (world.cutting && random.chance(0.05)) session = undefined
    session ??= await open(world, url, random.between(1, 200))
    if (session) {
      if (sessions.at(-1) !== session) sessions.push(session)
      const since = session.events.at(-1)?.seq ?? session.since
      const lifeMs =
        world.cutting && random.chance(0.8) ? random.between(50, SHORT_MS) : random.between(SHORT_MS, LONG_MS)
      for await (const event of events(world, url, since, random.chance(0.5), lifeMs)) {
        if (event.type === 'reset') {
          session.resetAt = event.seq
          session = undefined
          break
        }
        session.events.push(event)
      }
    }
    await world.sleep(random.between(0, 300))
  }
}

async function open(world: World, url: string, limit: number): Promise<Session | undefined> {
  const answer = await world.ask(url, { path: `/api/messages?limit=${limit}` })
  if (answer?.status !== 200) return undefined
  const since = Number(answer.headers.get('x-event-cursor') ?? NaN)
  if (Number.isNaN(since)) world.find('error', 'a list came without X-Event-Cursor')
  return { since, limit, list: (answer.body as Message[]).map(({ id, text }) => ({ id, text })), events: [] }
}

/** The events after `since`, until the connection ends or `lifeMs` are over. */
async function* events(
  world: World,
  url: string,
  since: number,
  byHeader: boolean,
  lifeMs: number
): AsyncGenerator<StreamEvent> {
  const life = world.limit(lifeMs)
  try {
    const response = await fetch(`${url}/api/events${byHeader ? '' : `?since=${since}`}`, {
      signal: life.signal,
      headers: byHeader ? { 'last-event-id': `${since}` } : {}
    })
    world.count('streams opened')
    // EventSource never comes back after anything else.
    if (response.status !== 200) {
      return world.find('error', `a stream was answered with ${response.status} ${await response.text()}`)
    }
    for await (const event of readEvents(response)) {
      world.count('events delivered')
      yield event
    }
  } catch (error) {
    if (error instanceof SyntaxError) world.find('error', `an event is not JSON: ${error.message}`)
    else if (!life.signal.aborted) world.count('streams broken')
  } finally {
    life.release()
  }
}
