import type { Written } from './checker.ts'
import type { Message, World } from './world.ts'

const EARLIER_POSTS = 20

/** Whether the log was in force since `blackoutChanges` of the world was as given. */
export const wasLogged = (world: World, changesBefore: number) =>
  changesBefore % 2 === 0 && world.blackoutChanges === changesBefore

/**
 * One user who posts, and sometimes repeats, edits and deletes a message, through any replica.
 * @param certain posts with keys and does not give up; else each post is sent once, without a key
 */
export async function author(
  world: World,
  name: string,
  token: string,
  certain: boolean
): Promise<Written[]> {
  const random = world.random(name)
  const written: Written[] = []
  const mine: { message: Written; text: string; settled: boolean }[] = []

  /** @returns whether it was acknowledged */
  const post = async (message: Written, text: string, cut: boolean): Promise<boolean> => {
    const url = random.pick(world.urls)
    const cutAfterMs = cut ? random.between(1, 80) : undefined
    const answer = await world.ask(url, {
      method: 'POST',
      path: '/api/messages',
      token,
      body: { text },
      cutAfterMs,
      ...(certain && { key: message.name })
    })
    if (answer && answer.status !== 201) {
      world.find('error', `POST ${text} answered ${answer.status} ${JSON.stringify(answer.body)}`)
    }
    if (answer?.status !== 201) return false
    const { id } = answer.body as Message
    const isNew = !answer.headers.has('idempotency-replayed')
    world.count(isNew ? 'posts acknowledged' : 'posts acknowledged again')
    message.ids.push(id)
    if (isNew) message.news++
    if (random.chance(0.3) && !world.isBehindProxy) await readOwn(url, id)
    return true
  }
  /** Whoever was told that it is posted sees it at once on the same replica. */
  const readOwn = async (url: string, id: number) => {
    const answer = await world.ask(url, { path: `/api/messages?after_id=${id - 1}&limit=1` })
    if (answer?.status === 200 && !answer.headers.has('age') && (answer.body as Message[])[0]?.id !== id) {
      world.find('missed', `${name} does not see message ${id} on its own replica`)
    }
  }
  /** Repeats a change until it was made. */
  const change = async (method: 'PATCH' | 'DELETE', message: Written, text?: string): Promise<void> => {
    message.final = text
    const changesBefore = world.blackoutChanges
    const request = {
      method,
      path: `/api/messages/${message.ids[0]}`,
      token,
      ...(text !== undefined && { body: { text } })
    }
    let answer
    for (let tries = 1; !answer && !world.ended.signal.aborted; tries++) {
      answer = await world.ask(random.pick(world.urls), request)
      // Of a deletion whose answer was lost there is nothing left.
      const done = answer?.status === 200 || (answer?.status === 404 && method === 'DELETE' && tries > 1)
      if (answer && !done) {
        world.find(
          'error',
          `${method} ${request.path} answered ${answer.status} ${JSON.stringify(answer.body)}`
        )
      }
      if (!answer) await world.sleep(random.between(100, 400))
    }
    if (!answer) return world.find('lost', `${method} ${request.path} was never acknowledged`)
    world.count(method === 'PATCH' ? 'edits' : 'deletes')
    if (method === 'PATCH' && wasLogged(world, changesBefore)) message.edits++
  }

  for (let n = 1; world.writing; n++) {
    const text = `${name}-${n} says ${'something '.repeat(random.between(1, 8)).trim()}`
    const message: Written = { name: `${name}-${n}`, certain, ids: [], news: 0, edits: 0, final: text }
    // Sometimes the same post reaches two replicas at once, and sometimes its sender hangs up.
    const copies = () =>
      Array.from({ length: certain && random.chance(0.2) ? 2 : 1 }, () =>
        post(message, text, world.cutting && certain && random.chance(0.1))
      )
    let settled = !(await Promise.all(copies())).includes(false)
    const isOpen = () => certain && message.ids.length === 0 && !world.ended.signal.aborted
    while (isOpen()) {
      settled = false
      world.count('posts sent again')
      await world.sleep(random.between(50, 300))
      await Promise.all(copies())
    }
    written.push(message)
    mine.push({ message, text, settled })

    const earlier = random.pick(mine.slice(-EARLIER_POSTS))
    if (earlier.message.final !== undefined && earlier.message.ids.length > 0) {
      if (certain && random.chance(0.1)) await post(earlier.message, earlier.text, false)
      if (random.chance(0.2)) {
        await change('PATCH', earlier.message, `${earlier.message.name} edit ${random.next()}`)
      }
      // A request whose answer was lost may still be under way, and its key ends with the message.
      if (random.chance(0.1) && earlier.settled) await change('DELETE', earlier.message)
    }
    await world.sleep(random.between(0, 150))
  }
  return written
}
