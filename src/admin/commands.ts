import { randomInt } from 'node:crypto'
import { CreateRestriction, SetRole } from '../../schemas/moderation.ts'
import { revokeAllApiTokens } from '../accounts/api-tokens.ts'
import { createPasswords } from '../accounts/passwords.ts'
import type { Sessions } from '../accounts/sessions.ts'
import { findUser, setPassword } from '../accounts/users.ts'
import type { Config } from '../config.ts'
import type { Query } from '../database/query.ts'
import { RedisUnavailable, UntilPast } from '../errors/catalogue.ts'
import { StartError } from '../lib/start-error.ts'
import { reasonOf } from '../lib/reason.ts'
import { liftRestriction, logAction, restrict, setRole } from '../moderation/actions.ts'
import { findRestriction, listNotable, type Notable } from '../moderation/lists.ts'
import { parseData } from '../plugins/validation.ts'
import type { Engines } from './engines.ts'

// Without letters and digits that look alike, because people type it. 24 characters of 32 give 120 bits.
const PASSWORD_CHARACTERS = 'abcdefghijkmnpqrstuvwxyz23456789'
const PASSWORD_LENGTH = 24

// Entries of the operator have no moderator in the moderation log.
const OPERATOR = null

interface Options {
  until?: string | undefined
  reason?: string | undefined
}

/** A parsed command line, and what it needs to run. */
export interface Call {
  engines: Engines
  config: Config
  values: string[]
  options: Options
}

/** A command with its name, parameters and options. */
export interface Command {
  name: string
  parameters: string[]
  options: (keyof Options)[]
  /** Runs the command. @returns what to print @throws {StartError | ClientError} */
  run: (call: Call) => Promise<string>
}

/** Makes text from users safe to print: no control sequences reach the terminal. */
const printable = (text: string) => text.replace(/\p{C}/gu, '\ufffd')

async function findByNickname(query: Query, nickname: string): Promise<{ id: number; name: string }> {
  const user = await findUser(query, nickname)
  if (user === undefined) throw new StartError(`there is no user with the nickname ${printable(nickname)}`)
  return { id: user.id, name: printable(user.nickname) }
}

/** @param done what has already happened, for the error if this fails */
async function endSessions(sessions: Sessions, userId: number, done: string): Promise<void> {
  try {
    await sessions.endAll(userId)
  } catch (error) {
    if (!(error instanceof RedisUnavailable)) throw error
    throw new StartError(
      `${done}, but not all sessions have ended; run this again: ${reasonOf(error.cause)}`,
      { cause: error }
    )
  }
}

async function giveRole({ engines, values: [nickname = '', text = ''] }: Call): Promise<string> {
  const { role } = parseData(SetRole, { role: text })
  const query = await engines.database()
  const { id, name } = await findByNickname(query, nickname)
  await setRole(query, OPERATOR, id, role)
  return `${name} now has the role ${role}`
}

async function ban({ engines, values: [nickname = ''], options }: Call): Promise<string> {
  const given = parseData(CreateRestriction, { kind: 'ban', ...options })
  const until = given.until ? new Date(given.until) : undefined
  if (until !== undefined && until.getTime() <= Date.now()) throw new UntilPast()
  const query = await engines.database()
  const { id, name } = await findByNickname(query, nickname)
  const sessions = await engines.sessions()
  await restrict(query, OPERATOR, id, { kind: 'ban', until, reason: given.reason || undefined })
  const done = `${name} is banned${until ? ` until ${until.toISOString()}` : ''}`
  await endSessions(sessions, id, done)
  return `${done}, and all sessions have ended`
}

async function unban({ engines, values: [nickname = ''] }: Call): Promise<string> {
  const query = await engines.database()
  const { id, name } = await findByNickname(query, nickname)
  const restriction = await findRestriction(query, id)
  await liftRestriction(query, OPERATOR, id)
  if (restriction === undefined) return `${name} had no restriction`
  return `${name} is no longer ${restriction.kind === 'ban' ? 'banned' : 'muted'}`
}

function drawPassword(minLength: number): string {
  const length = Math.max(PASSWORD_LENGTH, minLength)
  return Array.from({ length }, () => PASSWORD_CHARACTERS[randomInt(PASSWORD_CHARACTERS.length)]).join('')
}

async function resetPassword({ engines, config, values: [nickname = ''] }: Call): Promise<string> {
  const query = await engines.database()
  const { id, name } = await findByNickname(query, nickname)
  const sessions = await engines.sessions()
  const password = drawPassword(config.PASSWORD_MIN_LENGTH)
  const passwords = createPasswords(config.BCRYPT_COST)
  const client = { address: '', signal: new AbortController().signal }
  const hash = await passwords.hash(password, client).finally(() => passwords.close())
  await logAction(query, OPERATOR, id, 'reset_password')
  await setPassword(query, id, hash)
  // A login under way with the old password checks the hash again after it has started its session.
  await endSessions(sessions, id, `the password of ${name} was reset`)
  // After the sessions, because a session can still create a token.
  await revokeAllApiTokens(query, id)
  return `the new password of ${name} is ${password}`
}

async function endAllSessions({ engines, values: [nickname = ''] }: Call): Promise<string> {
  const query = await engines.database()
  const { id, name } = await findByNickname(query, nickname)
  const sessions = await engines.sessions()
  await logAction(query, OPERATOR, id, 'end_sessions')
  await endSessions(sessions, id, 'the moderation log has an entry')
  return `all sessions of ${name} have ended`
}

function describe({ nickname, role, restriction }: Notable): string {
  const parts: string[] = [role]
  if (restriction !== undefined) {
    const until = restriction.until ? ` until ${restriction.until.toISOString()}` : ''
    const reason = restriction.reason === undefined ? '' : ` (${printable(restriction.reason)})`
    parts.push(`${restriction.kind === 'ban' ? 'banned' : 'muted'}${until}${reason}`)
  }
  return `${printable(nickname)}: ${parts.join(', ')}`
}

async function list({ engines }: Call): Promise<string> {
  const people = await listNotable(await engines.database())
  return people.length === 0 ? 'nobody has a role or a restriction' : people.map(describe).join('\n')
}

export const commands: Command[] = [
  { name: 'role', parameters: ['NICK', 'ROLE'], options: [], run: giveRole },
  { name: 'ban', parameters: ['NICK'], options: ['until', 'reason'], run: ban },
  { name: 'unban', parameters: ['NICK'], options: [], run: unban },
  { name: 'reset-password', parameters: ['NICK'], options: [], run: resetPassword },
  { name: 'sessions end', parameters: ['NICK'], options: [], run: endAllSessions },
  { name: 'list', parameters: [], options: [], run: list }
]
