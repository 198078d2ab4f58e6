import { Failure, serviceTime } from './api.js'
import { locale, say, sayDate } from './i18n.js'
import { timeUntil } from './language.js'
import { addToMenu } from './menu.js'
import { attempt, loaded, part, tell } from './page.js'

/** @typedef {import('../schemas/messages.ts').Message} Message */
/**
 * The response of `GET /api/me`.
 * @typedef {object} Me
 * @property {'member' | 'moderator' | 'admin'} role
 * @property {{ kind: 'mute' | 'ban', until: string | null } | null} restriction
 */

/** How often somebody who is muted or banned asks whether that is still so. */
const CHECK_MS = 60_000
/** How soon somebody asks again who has got no answer. */
const AGAIN_MS = 10_000

/** Loads what moderators do. @throws {Failure} */
const loadPanel = () => loaded('panels/moderation.js', () => import('./panels/moderation.js'))

/**
 * What the reader may do in the room: a moderator has more to choose from, and everybody is told why they
 * cannot write, and until when.
 * @param {import('./room.js').Room} room @param {import('./outbox.js').Outbox} outbox
 * @param {import('./session.js').Session} session
 */
export function showRules(room, outbox, session) {
  const form = part('composer', HTMLFormElement)
  const rules = part('rules', HTMLElement)
  const countdown = part('countdown', HTMLElement)
  const open = part('moderation', HTMLButtonElement)
  /** @type {Me | undefined} */
  let me
  /** Whose `me` that is. @type {string | undefined} */
  let knownToken
  /** The newest own message; undefined: not known yet. @type {number | undefined} */
  let lastOwn
  /** When a post began the pause of slow mode, by the clock of the service. @type {number | undefined} */
  let pauseBegan
  /** The pause of slow mode when it was last looked at. */
  let slowSeconds = 0
  let counting = 0
  let checking = 0
  /** The failures that were noticed. @type {WeakSet<Failure>} */
  const known = new WeakSet()

  const isModerator = () => me !== undefined && me.role !== 'member'
  /** @param {Message} message */
  const isMine = ({ userId }) => userId === session.account?.userId
  /** @param {Message} message */
  const isBelow = (message) => isModerator() && !isMine(message)

  async function readMe() {
    const token = session.account?.token
    if (token !== knownToken) me = undefined
    knownToken = token
    /** @type {number | undefined} */
    let pauseMs
    try {
      const answer = token ? await session.call('GET', 'me') : undefined
      if (token === session.account?.token) me = answer
      if (me?.restriction) pauseMs = untilCheck(me.restriction.until)
    } catch (failure) {
      // Without an answer the reader is a member like any other, and the service decides.
      if (!(failure instanceof Failure)) throw failure
      if (failure.isTemporary) pauseMs = failure.retryMs || AGAIN_MS
    }
    open.hidden = !isModerator()
    clearTimeout(checking)
    if (pauseMs !== undefined) checking = window.setTimeout(readMe, pauseMs)
    draw()
  }

  /** A restriction may end by itself, or be lifted. @param {string | null} until @returns {number} in ms */
  function untilCheck(until) {
    const remains = until ? Date.parse(until) - serviceTime() : 0
    return remains > 0 ? Math.min(remains + 1000, CHECK_MS) : CHECK_MS
  }

  /** What keeps the reader from writing; undefined: nothing does. */
  function reason() {
    const until = me?.restriction?.until
    if (me?.restriction) {
      return say('youAreMuted', { until: until ? sayDate(new Date(until), 'moment') : undefined })
    }
    return room.settings?.readOnly && !isModerator() ? say('isReadOnly') : undefined
  }

  /** How long a post keeps the reader from the next one. */
  const pauseSeconds = () => (isModerator() || !session.account ? 0 : (room.settings?.slowModeSeconds ?? 0))

  /** A post begins the pause of slow mode. For earlier ones the service says how long it still takes. */
  function noticeOwnPost() {
    if (room.cursor === undefined) return
    const newest = room.messages.findLast(isMine)
    if (newest && lastOwn !== undefined && newest.id > lastOwn) {
      // It may have been posted elsewhere a while ago.
      pauseBegan = Math.min(serviceTime(), Date.parse(newest.createdAt))
    }
    lastOwn = Math.max(lastOwn ?? 0, newest?.id ?? 0)
  }

  /** What was refused because of slow mode is sent when the pause is another one. */
  function noticePause() {
    const seconds = pauseSeconds()
    if (seconds === 0) pauseBegan = undefined
    if (seconds === slowSeconds) return
    slowSeconds = seconds
    for (const { key, failure } of outbox.entries) {
      if (failure?.code === 'slow_mode') outbox.retry(key)
    }
  }

  /** Learns from what the service refuses. */
  function noticeRefusals() {
    for (const { failure } of outbox.entries) {
      if (!failure || known.has(failure)) continue
      known.add(failure)
      if (failure.code === 'muted') readMe()
      if (failure.code === 'slow_mode') {
        const began = serviceTime() + (failure.retrySeconds - pauseSeconds()) * 1000
        pauseBegan = Math.min(serviceTime(), began) // A longer pause may not be known here yet.
      }
    }
  }

  /** To be called after any change in the room or in the outbox. */
  function draw() {
    noticeOwnPost()
    noticeRefusals()
    noticePause()
    const why = session.account ? reason() : undefined
    const seconds = pauseSeconds()
    tell(rules, why ?? (seconds > 0 ? say('slowMode', { every: sayEvery(seconds) }) : ''))
    form.classList.toggle('silenced', why !== undefined)
    part('text', HTMLTextAreaElement).readOnly = why !== undefined
    const passed = serviceTime() - (pauseBegan ?? -Infinity)
    const left = why === undefined ? Math.max(0, Math.ceil(seconds - passed / 1000)) : 0
    part('send', HTMLButtonElement).disabled = why !== undefined || (left > 0 && !isEditing())
    tell(countdown, left > 0 ? say('nextPost', { in: timeUntil(locale(), left) }) : '')
    clearTimeout(counting)
    if (left > 0) counting = window.setTimeout(draw, 1000)
  }

  const isEditing = () => !part('editing', HTMLElement).hidden

  form.addEventListener(
    'submit',
    (event) => {
      if (!part('send', HTMLButtonElement).disabled) return
      event.preventDefault()
      event.stopImmediatePropagation()
    },
    true
  )
  open.addEventListener('click', () =>
    attempt('notice', async () => {
      const { showModeration } = await loadPanel()
      await showModeration(session, room, me?.role === 'admin', readMe)
    })
  )
  // Roles and restrictions change without an event.
  document.addEventListener('visibilitychange', () => {
    if (!document.hidden && session.account) readMe()
  })
  session.addEventListener('change', () => {
    lastOwn = undefined
    pauseBegan = undefined
    readMe()
  })
  addToMenu(
    {
      label: () => say('report'),
      isOffered: (message) => session.account !== undefined && !isMine(message) && !isModerator(),
      act: (message) => attempt('notice', async () => (await loadPanel()).reportMessage(session, message))
    },
    {
      label: () => say('muteEntry'),
      isOffered: isBelow,
      act: (message) => attempt('notice', async () => (await loadPanel()).restrict(session, message, 'mute'))
    },
    {
      label: () => say('banEntry'),
      isOffered: isBelow,
      act: (message) => attempt('notice', async () => (await loadPanel()).restrict(session, message, 'ban')),
      isDangerous: true
    },
    {
      label: () => say('deleteAllEntry'),
      isOffered: isBelow,
      act: (message) => attempt('notice', async () => (await loadPanel()).deleteAll(session, message)),
      isDangerous: true
    },
    {
      label: () => say('roleEntry'),
      isOffered: () => me?.role === 'admin',
      act: (message) => attempt('notice', async () => (await loadPanel()).giveRole(session, message, readMe))
    }
  )
  readMe()
  return { draw, isModerator }
}

/** @type {[number, 'day' | 'hour' | 'minute'][]} */
const UNITS = [
  [86_400, 'day'],
  [3600, 'hour'],
  [60, 'minute']
]

/** Such as `30 seconds`. @param {number} seconds */
export function sayEvery(seconds) {
  const [size, unit] = UNITS.find(([size]) => seconds % size === 0) ?? [1, 'second']
  const format = new Intl.NumberFormat(locale(), { style: 'unit', unit, unitDisplay: 'long' })
  return format.format(seconds / size)
}
