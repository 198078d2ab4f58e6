import { setTimeout as sleep } from 'node:timers/promises'
import type pg from 'pg'
import type { Written } from './checker.ts'
import { PASSWORD } from './evidence.ts'
import type { Answer, Message, Random, Request, World } from './world.ts'

/** So many posts of a member are under way at a time. */
const AT_ONCE = 3
/** Of the newest messages of a member, a moderator deletes one. */
const RECENT = 20

/** A user whom moderators silence, again and again. */
export interface Member {
  name: string
  userId: number
  token: string | undefined
  written: Written[]
  /** From before a moderator asks for a restriction until it is lifted. */
  isSilenced: boolean
  /** Settles when the posts that are under way have. */
  posting: Promise<unknown>
}

export const createMember = (name: string, { userId, token }: { userId: number; token: string }): Member => ({
  name,
  userId,
  token,
  written: [],
  isSilenced: false,
  posting: Promise.resolve()
})

/** Posts several messages at a time through all replicas, each once, and logs in again after a ban. */
export async function member(world: World, who: Member): Promise<Written[]> {
  const random = world.random(who.name)
  while (world.writing) {
    who.token ??= await logIn(world, random, who)
    const { token } = who
    if (token !== undefined) {
      const messages = Array.from({ length: AT_ONCE }, () => newMessage(who))
      who.posting = Promise.all(messages.map((message) => post(world, random, who, token, message)))
      await who.posting
    }
    await world.sleep(random.between(0, 200))
  }
  return who.written
}

function newMessage({ name, written }: Member): Written {
  const message = `${name}-${written.length + 1}`
  written.push({
    name: message,
    certain: false,
    ids: [],
    news: 0,
    edits: 0,
    final: `${message} says something`
  })
  return written.at(-1)!
}

async function logIn(world: World, random: Random, who: Member): Promise<string | undefined> {
  const wasSilenced = who.isSilenced
  const body = { nickname: who.name, password: PASSWORD }
  const answer = await world.ask(random.pick(world.urls), { method: 'POST', path: '/api/login', body })
  if (answer?.status === 200) return (answer.body as { token: string }).token
  // A ban that began meanwhile has ended the new session.
  const isRefused = answer?.status === 401 || answer?.status === 403
  if (answer && !(isRefused && (wasSilenced || who.isSilenced))) complain(world, who, 'a login', answer)
  return undefined
}

async function post(world: World, random: Random, who: Member, token: string, message: Written) {
  const wasSilenced = who.isSilenced
  const answer = await world.ask(random.pick(world.urls), {
    method: 'POST',
    path: '/api/messages',
    token,
    key: message.name,
    body: { text: message.final },
    mayBeLoggedOut: true
  })
  if (answer?.status === 201) {
    world.count('posts acknowledged')
    message.ids.push((answer.body as Message).id)
    message.news++
    return
  }
  const isLoggedOut = answer?.status === 401
  if ((isLoggedOut || answer?.status === 403) && (wasSilenced || who.isSilenced)) {
    world.count('posts refused by moderation')
    if (isLoggedOut && who.token === token) who.token = undefined
  } else if (answer && !(isLoggedOut && (await isValidSoon(world, who, token)))) {
    complain(world, who, 'a post', answer)
  }
}

/**
 * Whether a session is valid a moment later, or need not be. A Redis that was demoted a moment ago, and is
 * still asked, may not have heard of a new one.
 */
async function isValidSoon(world: World, who: Member, token: string): Promise<boolean> {
  await world.sleep(1000)
  const request = { path: '/api/me', token, mayBeLoggedOut: true }
  const answers = await Promise.all(world.urls.map((url) => world.ask(url, request)))
  return who.token !== token || who.isSilenced || answers.every((answer) => answer?.status !== 401)
}

const complain = (world: World, { name }: Member, what: string, { status, body }: Answer) =>
  world.find('error', `${what} of ${name} was answered with ${status} ${JSON.stringify(body)}`)

/** Makes a user a moderator. */
export const appoint = (client: pg.Client, userId: number) =>
  client.query("insert into chat_user_role (user_id, role) values ($1, 'moderator')", [userId])

/** Mutes and bans members for a moment, and deletes what they posted. */
export async function moderator(
  world: World,
  token: string,
  members: Member[],
  connect: () => Promise<pg.Client>
): Promise<void> {
  const random = world.random('moderator')

  /** Asks until it is done. @returns whether it was, before the run ended */
  const act = async (request: Request, done: number[]): Promise<boolean> => {
    for (let tries = 1; !world.ended.signal.aborted; tries++) {
      const answer = await world.ask(random.pick(world.urls), { ...request, token })
      if (answer && done.includes(answer.status)) return true
      // Of a deletion whose answer was lost there is nothing left.
      if (answer?.status === 404 && request.method === 'DELETE' && tries > 1) return true
      if (answer) {
        world.find(
          'error',
          `${request.method} ${request.path} answered ${answer.status} ${JSON.stringify(answer.body)}`
        )
      }
      await world.sleep(random.between(50, 200))
    }
    return false
  }

  const deleteOne = async (who: Member) => {
    const living = who.written.filter(({ ids, final }) => ids.length > 0 && final !== undefined)
    const message = living.length > 0 ? random.pick(living.slice(-RECENT)) : undefined
    if (!message) return
    message.final = undefined
    const isDone = await act({ method: 'DELETE', path: `/api/messages/${message.ids[0]}` }, [200])
    if (isDone) world.count('messages deleted by moderators')
  }

  const deleteAll = async (who: Member) => {
    for (const message of who.written) message.final = undefined
    const isDone = await act({ method: 'DELETE', path: `/api/users/${who.userId}/messages` }, [200])
    if (isDone) world.count('users whose messages were deleted')
  }

  const silence = async (who: Member, kind: 'ban' | 'mute') => {
    const path = `/api/users/${who.userId}/restriction`
    const { token: session } = who
    who.isSilenced = true
    if (!(await act({ method: 'PUT', path, body: { kind } }, [200]))) return
    const from = await lastEntry(world, connect)
    if (kind === 'ban') {
      who.token = undefined
      if (session !== undefined) await mustHaveEnded(world, who, session)
    }
    await who.posting
    if (random.chance(0.5)) await deleteAll(who)
    await world.sleep(random.between(200, 1500))
    const to = await lastEntry(world, connect)
    world.silences.push({ author: who.name, from, to })
    if (!(await act({ method: 'DELETE', path }, [204]))) return
    who.isSilenced = false
    world.count(kind === 'ban' ? 'bans' : 'mutes')
  }

  for (let n = 0; world.writing; n++) {
    const who = random.pick(members)
    await (n % 3 === 0 ? silence(who, n % 2 === 0 ? 'mute' : 'ban') : deleteOne(who))
    await world.sleep(random.between(50, 400))
  }
}

/** After the answer to the moderator, the session of a banned user is valid at no replica. */
async function mustHaveEnded(world: World, { name }: Member, session: string): Promise<void> {
  for (const url of world.urls) {
    const answer = await world.ask(url, { path: '/api/me', token: session, mayBeLoggedOut: true })
    if (answer && answer.status !== 401) world.find('heard', `the session of ${name} is valid at ${url}`)
  }
}

/** The last entry of the event log, as PostgreSQL knows it. */
async function lastEntry(world: World, connect: () => Promise<pg.Client>): Promise<number> {
  for (; !world.ended.signal.aborted; await sleep(50)) {
    const client = await connect().catch(() => undefined)
    const answer = await client
      ?.query('select coalesce(max(seq), 0)::float8 as seq from chat_event')
      .catch(() => undefined)
      .finally(() => client.end().catch(() => {}))
    if (answer) return Number(answer.rows[0].seq)
  }
  return Infinity
}
