// Holds what every client of a run saw and was told against what the database says at its end. Pure: no
// clock, no network.

import type { StreamEvent } from '../helpers/events.ts'

/** Is in each text of a transaction that rolled back: nobody may ever see it. */
export const ROLLED_BACK = 'never-committed'

export interface Text {
  id: number
  text: string
}
export interface LogRow {
  seq: number
  kind: string
  id: number
}

/**
 * One message, as its writer knows it. The first word of its text is its name, which no other message has,
 * and stays when it is edited.
 */
export interface Written {
  name: string
  /** Whether its writer asked until it was acknowledged: then it is lost if it is not there. */
  certain: boolean
  /** The id of each answer, and how many of them called it new. */
  ids: number[]
  news: number
  /**
   * Changes that were acknowledged, and what it says after the last of them: nothing when that was its end.
   */
  edits: number
  final: string | undefined
}

/** A reader who asks for what came after the last message that it saw. */
export interface Poller {
  name: string
  seen: Text[]
}

/**
 * A list with its cursor, and the events that followed, over all reconnections. @property limit of the list
 */
export interface Session {
  since: number
  limit: number
  list: Text[]
  events: StreamEvent[]
  /** Where it was told to load the room again, which has ended it. */
  resetAt?: number
}
/**
 * A reader of events. It followed its last session to the end of the run, and gave up each other one in the
 * middle.
 */
export interface Stream {
  name: string
  sessions: Session[]
}

/**
 * A time when a user could not post, from the answer to the moderator until the restriction was about to be
 * lifted: what the log said last at either moment. The first word of all texts of the user begins with
 * `author` and a hyphen.
 */
export interface Silence {
  author: string
  from: number
  to: number
}

/**
 * A time when the triggers of the log were not in force: from its entry `from` until the reset `to`, after
 * which everybody has to load the room again.
 */
export interface Blackout {
  from: number
  to: number
  /** The messages that came and went without an entry. */
  created: number[]
  deleted: number[]
}

export interface Evidence {
  table: Text[]
  log: LogRow[]
  written: Written[]
  pollers: Poller[]
  streams: Stream[]
  silences: Silence[]
  blackouts: Blackout[]
}
export interface Finding {
  kind: string
  what: string
}

type Find = (kind: string, what: string) => void
interface Truth {
  texts: Map<number, string>
  /** The entries that tell of a message; for what happened in a blackout, the reset after it. */
  created: Map<number, number>
  deleted: Map<number, number>
  log: LogRow[]
  rows: Map<number, LogRow>
  blackouts: Blackout[]
  /** Messages whose creation nobody can read in the log. */
  unlogged: Set<number>
}

const nameOf = (text: string) => text.split(' ', 1)[0] ?? ''

/** @returns what must not be; nothing when every promise was kept */
export function check(evidence: Evidence): Finding[] {
  const { table, log, written, pollers, streams, blackouts } = evidence
  const findings: Finding[] = []
  const find: Find = (kind, what) => findings.push({ kind, what })
  const of = (kind: string) => new Map(log.flatMap((row) => (row.kind === kind ? [[row.id, row.seq]] : [])))
  const truth: Truth = {
    texts: new Map(table.map(({ id, text }) => [id, text])),
    created: of('message_created'),
    deleted: of('message_deleted'),
    log,
    rows: new Map(log.map((row) => [row.seq, row])),
    blackouts,
    unlogged: new Set(blackouts.flatMap(({ created }) => created))
  }
  if (blackouts.length > 0) {
    // Those that also went in it are known to their writers alone.
    for (const id of written.flatMap(({ ids }) => ids)) {
      if (!truth.created.has(id) && !truth.texts.has(id)) truth.unlogged.add(id)
    }
  }
  for (const { to, created, deleted } of blackouts) {
    for (const id of created) if (!truth.created.has(id)) truth.created.set(id, to)
    for (const id of deleted) if (!truth.deleted.has(id)) truth.deleted.set(id, to)
  }
  checkWriters(table, written, truth, find)
  checkLog(written, truth, find)
  for (const { name, seen } of pollers) {
    checkPoller(seen, truth, (kind, what) => find(kind, `${name}: ${what}`))
  }
  for (const { name, sessions } of streams) {
    sessions.forEach((session, i) =>
      checkSession(session, i === sessions.length - 1, truth, (kind, what) => find(kind, `${name}: ${what}`))
    )
  }
  checkSilences(evidence, find)
  return findings
}

/**
 * What was acknowledged is in the table, once, with the id and the text that its writer was told, and nothing
 * else is.
 */
function checkWriters(table: Text[], written: Written[], { texts }: Truth, find: Find): void {
  const stored = new Map<string, number>()
  for (const { text } of table) stored.set(nameOf(text), (stored.get(nameOf(text)) ?? 0) + 1)
  for (const {
    name,
    certain,
    ids: [id, ...others],
    news,
    final
  } of written) {
    const count = stored.get(name) ?? 0
    stored.delete(name)
    if (count > 1) find('twice', `${name} is ${count} times in the table`)
    if (others.some((other) => other !== id)) {
      find('twice', `${name} was acknowledged as ${[id, ...others].join(', ')}`)
    }
    if (news > 1) find('twice', `${name} was acknowledged as new ${news} times`)
    if (certain && id === undefined) find('lost', `${name} was never acknowledged`)
    if (id !== undefined && texts.get(id) !== final) {
      find(
        'lost',
        `${name} should be ${final ?? 'deleted'}, and is ${texts.get(id) ?? 'not there'} (message ${id})`
      )
    } else if (final === undefined && count > 0) {
      find('lost', `${name} should be deleted, and is in the table`)
    }
  }
  for (const name of stored.keys()) find('invented', `nobody wrote ${name}, which is in the table`)
  checkTexts(table, find)
}

/** The log tells each change once, and creations in the order of ids. */
function checkLog(written: Written[], { texts, created, deleted, log }: Truth, find: Find): void {
  let last = 0
  const times = new Map<string, number>()
  for (const { seq, kind, id } of log) {
    const change = `${kind} ${id}`
    times.set(change, (times.get(change) ?? 0) + 1)
    if (kind === 'message_updated' || kind === 'reset') continue
    if (times.get(change) !== 1) find('twice', `the log has ${change} again at ${seq}`)
    if (kind === 'message_created' && id < last) {
      find('order', `the log has ${change} after ${last} at ${seq}`)
    }
    if (kind === 'message_created') last = id
  }
  for (const id of texts.keys()) {
    if (!created.has(id) || deleted.has(id)) {
      find('missed', `message ${id} is there, and the log does not say so`)
    }
  }
  for (const id of created.keys()) {
    if (!texts.has(id) && !deleted.has(id)) {
      find('missed', `message ${id} is gone, and the log does not say so`)
    }
  }
  for (const {
    name,
    ids: [id],
    edits
  } of written) {
    if (id !== undefined && (times.get(`message_updated ${id}`) ?? 0) < edits) {
      find('missed', `the log does not have all ${edits} edits of ${name} (message ${id})`)
    }
  }
}

/** A poller saw each message that is there once, in the order of ids, and nothing that never was. */
function checkPoller(seen: Text[], { texts, created, unlogged }: Truth, find: Find): void {
  const ids = new Set<number>()
  let last = 0
  for (const { id, text } of seen) {
    if (ids.has(id)) find('twice', `message ${id}`)
    else if (id < last) find('order', `message ${id} after ${last}`)
    const now = texts.get(id)
    const isKnown = created.has(id) || unlogged.has(id)
    if (!isKnown || (now !== undefined && nameOf(now) !== nameOf(text))) {
      find('invented', `message ${id}, ${text}`)
    }
    ids.add(id)
    last = id
  }
  // Whoever knows no resets may be past what was not in the log.
  for (const id of texts.keys()) if (!ids.has(id) && !unlogged.has(id)) find('missed', `message ${id}`)
  checkTexts(seen, find)
}

/**
 * A list and the events after its cursor are the whole story: each event once, in order, and it ends as the
 * table does.
 */
function checkSession(
  { since, limit, list, events, resetAt }: Session,
  isLast: boolean,
  { texts, created, deleted, log, rows, blackouts, unlogged }: Truth,
  find: Find
): void {
  const toTheEnd = isLast && resetAt === undefined
  const isDark = blackouts.some(({ from, to }) => since >= from && since < to)
  // Of messages before a list that was full this client knows nothing.
  const first = list.length < limit ? 0 : (list[0]?.id ?? 0)
  const state = new Map(list.map(({ id, text }) => [id, text]))
  for (const id of state.keys()) {
    if (isDark && unlogged.has(id)) continue
    if ((created.get(id) ?? Infinity) > since || (deleted.get(id) ?? Infinity) <= since) {
      find('snapshot', `message ${id} is in the list at ${since}`)
    }
  }
  for (const id of texts.keys()) {
    if (id >= first && (created.get(id) ?? 0) <= since && !state.has(id)) {
      find('missed', `message ${id} is not in the list at ${since}`)
    }
  }
  const seqs = new Set<number>()
  let last = since
  for (const { seq, type, id, text } of events) {
    if (seqs.has(seq)) find('twice', `event ${seq}`)
    else if (seq <= last) find('order', `event ${seq} after ${last}`)
    const row = rows.get(seq)
    if (row?.kind !== type || row.id !== id) find('invented', `event ${seq}, ${type} ${id}`)
    seqs.add(seq)
    last = seq
    if (text === undefined) state.delete(id)
    else if (id >= first) state.set(id, text)
  }
  for (const { seq, kind, id } of log) {
    // The log holds no texts: a message that is gone before an event of its life is read leaves nothing to
    // tell but its end.
    const due = seq > since && (toTheEnd || seq <= last) && (kind === 'message_deleted' || texts.has(id))
    if (due && !seqs.has(seq)) find('missed', `event ${seq}, ${kind} ${id}`)
  }
  checkResets(since, toTheEnd ? Infinity : last, resetAt, log, find)
  checkTexts([...list, ...events], find)
  if (!toTheEnd) return
  for (const id of new Set([...state.keys(), ...texts.keys()])) {
    if (id >= first && state.get(id) !== texts.get(id)) {
      find(
        'diverged',
        `message ${id} ends as ${state.get(id) ?? 'not there'}, and is ${texts.get(id) ?? 'not there'}`
      )
    }
  }
}

/** Whoever gets past a reset in the log is told to load the room again, and nobody else is. */
function checkResets(
  since: number,
  last: number,
  resetAt: number | undefined,
  log: LogRow[],
  find: Find
): void {
  const resets = log.filter(({ seq, kind }) => kind === 'reset' && seq > since).map(({ seq }) => seq)
  if (resetAt !== undefined && !resets.some((seq) => seq <= resetAt)) {
    find('reset', `after event ${since}, at ${resetAt}, and the log does not say so`)
  }
  for (const seq of resets) if (seq < last) find('missed', `event ${seq}, reset`)
}

/** Of a user who was told to be silent, nothing is new from the moment when the moderator was answered. */
function checkSilences({ table, log, written, pollers, streams, silences }: Evidence, find: Find): void {
  const names = new Map(written.flatMap(({ name, ids }) => ids.map((id) => [id, name])))
  const seen: { id: number; text?: string }[] = [
    ...table,
    ...pollers.flatMap((poller) => poller.seen),
    ...streams.flatMap(({ sessions }) => sessions.flatMap(({ list, events }) => [...list, ...events]))
  ]
  for (const { id, text } of seen) {
    if (text !== undefined) names.set(id, nameOf(text))
  }
  for (const { author, from, to } of silences) {
    for (const { seq, kind, id } of log) {
      const isNews = kind === 'message_created' || kind === 'message_updated'
      if (isNews && seq > from && seq <= to && names.get(id)?.startsWith(`${author}-`)) {
        find('heard', `${author} was silenced from ${from} to ${to}: event ${seq}, ${kind} ${id}`)
      }
    }
  }
}

function checkTexts(texts: { id: number; text?: string }[], find: Find): void {
  for (const { id, text } of texts) {
    if (text?.includes(ROLLED_BACK)) find('rolled back', `message ${id}, ${text}`)
  }
}
