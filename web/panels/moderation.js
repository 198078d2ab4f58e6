import { serviceTime } from '../api.js'
import { say, sayCount, sayDate } from '../i18n.js'
import { isolate } from '../language.js'
import { goTo } from '../links.js'
import { sayEvery } from '../moderation.js'
import { attempt, part, tellBriefly } from '../page.js'
import { beginningOf } from '../text.js'
import { action, field, focusItem, loadStyles, make, replaceContent, showDialog } from './element.js'

/** @typedef {import('../../schemas/messages.ts').Message} Message */
/** @typedef {import('../../schemas/moderation.ts').Report} Report */
/** @typedef {import('../../schemas/moderation.ts').Restriction} Restriction */
/** @typedef {import('../../schemas/moderation.ts').ModerationEntry} ModerationEntry */
/** @typedef {import('../session.js').Session} Session */
/** @typedef {import('../../schemas/room.ts').Room} Room */
/** @typedef {Omit<Room, 'online'>} Settings */
/** @typedef {'mute' | 'ban'} Kind */
/** @typedef {(closed: AbortSignal) => Promise<Node[]>} View of a tab, until that is closed */
/**
 * What the views need.
 * @typedef {object} Panel
 * @property {Session} session
 * @property {import('../room.js').Room} room
 * @property {() => Promise<void>} refresh reads the current view anew
 * @property {(work: () => Promise<unknown>) => Promise<void>} act does what may fail
 */

/** How much of a message is quoted. */
const [QUOTE_CHARACTERS, QUOTE_LINES] = [300, 6]
/** How many entries of a list are loaded at a time. */
const PAGE = 30
const MAX_REASON = 500
const MAX_TOPIC = 200
/** For how long somebody is muted or banned, in seconds; 0: for good. */
const DURATIONS = [600, 3600, 21_600, 86_400, 604_800, 2_592_000, 0]
const ROLES = /** @type {const} */ (['member', 'moderator', 'admin'])
/** How often a member may post in slow mode, in seconds. */
const SLOW_MODES = [0, 5, 10, 30, 60, 300, 900, 3600, 21_600]

/** @param {Message} message */
const quote = ({ text }) =>
  make('blockquote', { dir: 'auto', textContent: beginningOf(text, QUOTE_CHARACTERS, QUOTE_LINES) })

/** @param {string} [time] */
const moment = (time) => (time ? sayDate(new Date(time), 'moment') : '')

/**
 * A dialog that asks something, and closes once it is done.
 * @param {string} title @param {Node[]} content of the form @param {HTMLButtonElement} submit
 * @param {() => Promise<unknown>} work
 * @param {() => Promise<unknown>} [done] follows once the dialog is closed
 */
async function ask(title, content, submit, work, done) {
  await loadStyles()
  const heading = make('h2', { id: 'ask-title', textContent: title })
  const cancel = action('cancel', 'second', () => dialog.close())
  const notice = make('p', { id: 'ask-notice', role: 'alert', className: 'notice', hidden: true })
  const row = make('p', { className: 'row' }, cancel, submit)
  const form = make('form', {}, heading, notice, ...content, row)
  const dialog = make('dialog', { id: 'ask' }, form)
  dialog.setAttribute('aria-labelledby', heading.id)
  form.addEventListener('submit', (event) => {
    event.preventDefault()
    attempt(
      notice.id,
      async () => {
        await work()
        dialog.close()
        await done?.()
      },
      form
    )
  })
  showDialog(dialog)
}

const makeReason = (isRequired = false) =>
  make('input', {
    name: 'reason',
    maxLength: MAX_REASON * 2, // in units of UTF-16: an emoji may have two
    dir: 'auto',
    autocomplete: 'off',
    required: isRequired
  })

/** Tells the moderators of a message. @param {Session} session @param {Message} message */
export function reportMessage(session, message) {
  const reason = makeReason(true)
  const submit = make('button', { textContent: say('reportSend') })
  return ask(
    say('reportTitle', { name: message.nickname }),
    [quote(message), field(say('reportReason'), reason)],
    submit,
    async () => {
      await session.call('POST', `messages/${message.id}/report`, { body: { reason: reason.value } })
      tellBriefly(say('reported'))
    }
  )
}

/**
 * Mutes or bans somebody.
 * @param {Session} session @param {{ userId: number, nickname: string }} person @param {Kind} kind
 * @param {() => Promise<unknown>} [done]
 */
export function restrict(session, { userId, nickname }, kind, done) {
  const duration = make(
    'select',
    { name: 'duration' },
    ...DURATIONS.map((seconds) => {
      const textContent = seconds ? sayEvery(seconds) : say('forGood')
      return make('option', { value: `${seconds}`, textContent })
    })
  )
  duration.value = '86400'
  const reason = makeReason()
  const all = make('input', { type: 'checkbox', name: 'all' })
  const submit = make('button', { className: 'danger', textContent: say(kind === 'ban' ? 'ban' : 'mute') })
  return ask(
    say(kind === 'ban' ? 'banTitle' : 'muteTitle', { name: nickname }),
    [
      make('p', { className: 'hint', textContent: say(kind === 'ban' ? 'banHint' : 'muteHint') }),
      field(say('duration'), duration),
      field(say('reasonOptional'), reason),
      make('label', { className: 'check' }, all, say('deleteAllToo'))
    ],
    submit,
    async () => {
      const seconds = Number(duration.value)
      const until = seconds ? new Date(serviceTime() + seconds * 1000).toISOString() : null
      await session.callPatiently('PUT', `users/${userId}/restriction`, {
        body: { kind, until, reason: reason.value }
      })
      if (all.checked) await session.callPatiently('DELETE', `users/${userId}/messages`)
    },
    done
  )
}

/** Deletes everything that somebody wrote. @param {Session} session @param {Message} message */
export function deleteAll(session, { userId, nickname }) {
  const submit = make('button', { className: 'danger', textContent: say('delete') })
  const hint = make('p', { className: 'hint', textContent: say('deleteAllHint') })
  return ask(say('deleteAllTitle', { name: nickname }), [hint], submit, () =>
    session.callPatiently('DELETE', `users/${userId}/messages`)
  )
}

/**
 * Gives somebody a role.
 * @param {Session} session @param {{ userId: number, nickname: string }} person
 * @param {() => Promise<unknown>} done
 */
export function giveRole(session, { userId, nickname }, done) {
  const choices = ROLES.map((value) => {
    const choice = make('input', { type: 'radio', name: 'role', value, required: true })
    return make('label', { className: 'check' }, choice, say(value))
  })
  const legend = make('legend', { className: 'unseen', textContent: say('role') })
  const fields = make('fieldset', {}, legend, ...choices)
  const hint = make('p', { className: 'hint', textContent: say('roleHint') })
  const submit = make('button', { textContent: say('save') })
  return ask(
    say('roleTitle', { name: nickname }),
    [hint, fields],
    submit,
    async () => {
      const role = ROLES.find((_, i) => choices[i]?.querySelector('input')?.checked) ?? 'member'
      await session.callPatiently('PUT', `users/${userId}/role`, { body: { role } })
      tellBriefly(say('roleGiven', { name: nickname, role: say(role) }))
    },
    done
  )
}

/**
 * @param {Session} session @param {import('../room.js').Room} room
 * @param {boolean} isAdmin whether the reader may give roles
 * @param {() => Promise<unknown>} roleGiven is called after that
 */
export async function showModeration(session, room, isAdmin, roleGiven) {
  await loadStyles()
  if (document.getElementById('moderating')) return
  const notice = make('p', { id: 'moderation-notice', role: 'alert', className: 'notice', hidden: true })
  const title = make('h2', { id: 'moderation-title', textContent: say('moderation') })
  const place = make('div', { id: 'moderation-panel', role: 'tabpanel', tabIndex: 0 })
  let closing = new AbortController()
  /** @type {View} */
  let view = async () => []

  /** Shows a view. The one that was opened last wins, whichever is loaded first. @param {View} next */
  function open(next) {
    closing.abort()
    closing = new AbortController()
    const { signal } = closing
    view = next
    return attempt(notice.id, async () => {
      place.ariaBusy = 'true'
      /** @type {Node[]} */
      let content = []
      try {
        content = await next(signal)
      } catch (failure) {
        if (!signal.aborted) throw failure
      } finally {
        if (!signal.aborted) {
          place.ariaBusy = null
          replaceContent(place, ...content)
        }
      }
    })
  }

  /** @type {Panel} */
  const panel = {
    session,
    room,
    refresh: async () => {
      if (dialog.open) await open(view)
    },
    act: (work) => attempt(notice.id, work, place)
  }
  const views = {
    reports: () => showReports(panel),
    restrictions: () => showRestrictions(panel),
    moderationLog: () => showLog(panel, isAdmin ? roleGiven : undefined),
    roomSettings: (/** @type {AbortSignal} */ closed) => showSettings(panel, closed)
  }
  const tabs = make('div', { role: 'tablist', className: 'tabs', ariaLabel: say('moderation') })
  /** @type {HTMLButtonElement[]} */
  const buttons = []
  for (const [name, show] of Object.entries(views)) {
    const key = /** @type {keyof typeof views} */ (name)
    const tab = make('button', { type: 'button', role: 'tab', id: `tab-${name}`, textContent: say(key) })
    tab.setAttribute('aria-controls', place.id)
    tab.addEventListener('click', () => {
      for (const other of buttons) {
        other.ariaSelected = `${other === tab}`
        other.tabIndex = other === tab ? 0 : -1
      }
      place.setAttribute('aria-labelledby', tab.id)
      open(show)
    })
    buttons.push(tab)
    tabs.append(tab)
  }
  tabs.addEventListener('keydown', ({ key }) => {
    const at = buttons.findIndex((tab) => tab === document.activeElement)
    const step = { ArrowRight: 1, ArrowLeft: -1 }[key]
    if (at < 0 || step === undefined) return
    const isReversed = document.documentElement.dir === 'rtl'
    const tab = buttons.at((at + (isReversed ? -step : step)) % buttons.length)
    tab?.focus()
    tab?.click()
  })
  const close = make('form', { method: 'dialog', className: 'row' }, title, action('close', 'quiet'))
  const dialog = make('dialog', { id: 'moderating' }, close, tabs, notice, place)
  dialog.setAttribute('aria-labelledby', title.id)
  session.addEventListener('change', () => dialog.close(), { once: true })
  dialog.addEventListener('close', () => closing.abort())
  showDialog(dialog)
  buttons[0]?.click()
  buttons[0]?.focus()
}

/**
 * A list that is loaded page by page.
 * @template {{ id: number }} Item
 * @param {Panel} panel @param {string} path
 * @param {(item: Item) => HTMLElement} makeItem
 */
async function showList({ session, act }, path, makeItem) {
  const list = make('ul', { className: 'list' })
  const more = action('showOlder', 'second', () => act(load))
  let before = ''
  /** @param {number} limit @returns {Promise<Item[]>} */
  const read = (limit) => session.call('GET', `${path}?limit=${limit}${before}`)
  async function load() {
    const items = await read(PAGE)
    list.append(...items.map(makeItem))
    before = `&before_id=${items.at(-1)?.id}`
    // A short page need not be the last: messages that are very long come fewer at a time.
    const isLast = items.length === 0 || (items.length < PAGE && (await read(1)).length === 0)
    if (isLast && more === document.activeElement) focusItem(list, -1)
    more.hidden = isLast
  }
  await load()
  if (!list.firstElementChild) return [make('p', { className: 'hint', textContent: say('nothing') })]
  return [list, more]
}

/** @param {Panel} panel */
function showReports(panel) {
  const { session, refresh, act } = panel
  return showList(panel, 'reports', (/** @type {Report} */ { id, reason, createdAt, reporter, message }) => {
    const { userId, nickname } = message
    const by = say('reportedBy', { name: reporter.nickname ?? say('deletedUser'), time: moment(createdAt) })
    return make(
      'li',
      { className: 'report' },
      make(
        'p',
        {},
        make('b', { dir: 'auto', textContent: nickname }),
        ' ',
        make('small', { textContent: by })
      ),
      quote(message),
      make('p', { textContent: say('reasonWas', { reason }) }),
      make(
        'p',
        { className: 'row' },
        action('goToMessage', 'second', () => {
          part('moderating', HTMLDialogElement).close()
          goTo(message.id)
        }),
        action('muteEntry', 'second', () => restrict(session, { userId, nickname }, 'mute', refresh)),
        action('banEntry', 'second', () => restrict(session, { userId, nickname }, 'ban', refresh)),
        action('delete', 'second', () =>
          act(async () => {
            await session.callPatiently('DELETE', `messages/${message.id}`)
            await refresh()
          })
        ),
        action('dismiss', 'second', () =>
          act(async () => {
            await session.callPatiently('DELETE', `reports/${id}`)
            await refresh()
          })
        )
      )
    )
  })
}

/** @param {Panel} panel */
function showRestrictions(panel) {
  const { session, refresh, act } = panel
  return showList(panel, 'restrictions', (/** @type {Restriction} */ each) => {
    const { kind, until, reason, createdAt, moderator, nickname, userId } = each
    const what = say(kind === 'ban' ? 'isBanned' : 'isMuted', { until: moment(until) })
    const by = say('byModerator', { name: nameOf(moderator), time: moment(createdAt) })
    const lift = action('lift', 'second', () =>
      act(async () => {
        await session.callPatiently('DELETE', `users/${userId}/restriction`)
        await refresh()
      })
    )
    lift.ariaLabel = `${say('lift')}: ${nickname}`
    const texts = make('div', {}, make('b', { dir: 'auto', textContent: nickname }), ` ${what}`)
    if (reason) texts.append(make('p', { textContent: say('reasonWas', { reason }) }))
    texts.append(make('small', { textContent: by }))
    return make('li', {}, texts, lift)
  })
}

/** @param {{ nickname?: string } | undefined} person undefined: the operator of the service */
const nameOf = (person) => (person ? (person.nickname ?? say('deletedUser')) : say('operator'))

/** @type {Record<string, import('../i18n.js').Key>} */
const DEEDS = {
  mute: 'didMute',
  ban: 'didBan',
  lift_restriction: 'didLift',
  delete_message: 'didDelete',
  delete_messages: 'didDeleteAll',
  set_role: 'didSetRole',
  update_room: 'didUpdateRoom',
  close_report: 'didCloseReport',
  reset_password: 'didResetPassword',
  end_sessions: 'didEndSessions'
}

/** @param {unknown} name @returns {string} */
function sayRole(name) {
  const role = ROLES.find((each) => each === name)
  return role ? say(role) : `${name ?? ''}`
}

/**
 * @param {Panel} panel
 * @param {() => Promise<unknown>} [roleGiven] none: the reader may not give roles
 */
function showLog(panel, roleGiven) {
  return showList(panel, 'moderation-log', (/** @type {ModerationEntry} */ entry) => {
    const { until, to, deleted } = /** @type {Record<string, unknown>} */ (entry.details ?? {})
    const deed = DEEDS[entry.action]
    const values = {
      moderator: nameOf(entry.moderator),
      user: entry.user ? nameOf(entry.user) : '',
      until: moment(typeof until === 'string' ? until : undefined),
      role: sayRole(to),
      messages: typeof deleted === 'number' ? sayCount('messages', deleted) : ''
    }
    const text = deed ? say(deed, values) : `${isolate(values.moderator)}: ${entry.action}`
    const item = make('div', {}, make('span', { textContent: text }))
    if (entry.reason) item.append(make('p', { textContent: say('reasonWas', { reason: entry.reason }) }))
    item.append(make('small', { textContent: moment(entry.createdAt) }))
    const { user } = entry
    if (!roleGiven || entry.action !== 'set_role' || user?.nickname === undefined) return make('li', {}, item)
    const { userId, nickname } = user
    const change = action('roleEntry', 'second', () =>
      giveRole(panel.session, { userId, nickname }, async () => {
        await roleGiven()
        await panel.refresh()
      })
    )
    change.ariaLabel = `${say('roleEntry')}: ${nickname}`
    return make('li', {}, item, change)
  })
}

/**
 * Those settings that have another value than before.
 * @param {Settings} settings @param {Settings} before
 * @returns {Partial<Settings>}
 */
function changesIn(settings, before) {
  const names = /** @type {(keyof Settings)[]} */ (Object.keys(settings))
  return Object.fromEntries(
    names.filter((name) => settings[name] !== before[name]).map((name) => [name, settings[name]])
  )
}

/** As the form holds them: the topic in one line. @param {Settings} settings @returns {Settings} */
const asFields = ({ topic, slowModeSeconds, readOnly }) => {
  return { topic: topic.replace(/[\r\n]/g, ''), slowModeSeconds, readOnly }
}

/**
 * The settings of the room. A field that the reader has not touched follows what others change, and is not
 * sent.
 * @param {Panel} panel @param {AbortSignal} closed
 */
async function showSettings({ session, room, act }, closed) {
  let known = asFields(room.settings ?? (await session.call('GET', 'room')))
  const topic = make('input', { name: 'topic', maxLength: MAX_TOPIC * 2, dir: 'auto' })
  const slow = make('select', { name: 'slow' })
  const readOnly = make('input', { type: 'checkbox', name: 'readOnly' })
  const saved = make('output', { className: 'hint' })
  const form = make(
    'form',
    {},
    field(say('topic'), topic),
    field(say('slowModeSetting'), slow),
    make('label', { className: 'check' }, readOnly, say('readOnlySetting')),
    make('p', { className: 'row' }, saved, make('button', { textContent: say('save') }))
  )

  const entered = () => ({
    topic: topic.value,
    slowModeSeconds: Number(slow.value),
    readOnly: readOnly.checked
  })

  /** @param {Settings} settings */
  function fill({ topic: text, slowModeSeconds, readOnly: isReadOnly }) {
    if (topic.value !== text) topic.value = text // Setting the same moves the caret.
    const pause = `${slowModeSeconds}`
    if (!Array.from(slow.options, ({ value }) => value).includes(pause)) addPause(slowModeSeconds)
    slow.value = pause
    readOnly.checked = isReadOnly
  }

  /** @param {number} seconds */
  function addPause(seconds) {
    const textContent = seconds ? sayEvery(seconds) : say('off')
    slow.append(make('option', { value: `${seconds}`, textContent }))
  }

  /** @param {Settings} settings as they are now @param {Settings} before what the reader started from */
  function update(settings, before) {
    const changes = changesIn(entered(), before)
    known = asFields(settings)
    fill({ ...known, ...changes })
  }

  SLOW_MODES.forEach(addPause)
  fill(known)
  room.addEventListener('change', () => room.settings && update(room.settings, known), { signal: closed })
  form.addEventListener('submit', (event) => {
    event.preventDefault()
    saved.textContent = ''
    act(async () => {
      const sent = entered()
      const settings = await session.callPatiently('PATCH', 'room', { body: changesIn(sent, known) })
      update(settings, sent)
      room.apply([{ type: 'room_updated', room: settings }])
      saved.textContent = say('saved')
    })
  })
  return [form]
}
