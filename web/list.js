import { showUnread } from './alerts.js'
import { Failure, OFFLINE } from './api.js'
import { Texts } from './fold.js'
import { say, sayCount, sayDate, sayDay } from './i18n.js'
import { showMenus } from './menu.js'
import { hueOf, make, part, tell, within } from './page.js'
import { showReplied } from './replies.js'
import { beginningOf } from './text.js'
import { ReadMark } from './unread.js'
import { View } from './view.js'

/** @typedef {import('../schemas/messages.ts').Message} Message */

/** Messages of one person that follow each other sooner belong together. */
const GROUP_MS = 5 * 60_000
/** After so many messages of one person, the name is said again. */
const MAX_RUN = 10
/** So many pixels from an end, more is loaded. */
const NEAR_PX = 800
/** How soon that is tried again after a failure. */
const LOAD_AGAIN_MS = 3000
/** How often a screen reader announces new messages, */
const ANNOUNCE_MS = 2000
/** of how many messages one by one, and how much of each. */
const ANNOUNCE_EACH = 3
const ANNOUNCE_CHARACTERS = 500
/** A page that nobody looks at is drawn less often. */
const HIDDEN_DRAW_MS = 1000

/**
 * The messages on the page: never more elements than the room has messages, and drawn once for each frame,
 * however much happens.
 * @param {import('./room.js').Room} room
 * @param {import('./outbox.js').Outbox} outbox
 * @param {import('./session.js').Session} session
 */
export function showList(room, outbox, session) {
  const top = part('top', HTMLElement)
  const list = part('messages', HTMLOListElement)
  const pending = part('pending', HTMLOListElement)
  const newest = part('newest', HTMLButtonElement)
  /**
   * What is drawn of the room. Without `message`, it is to be written anew; `isRepeating` says the name
   * again, and stays, whatever comes and goes above.
   * @type {Map<number, { element: HTMLElement, message?: Message, isRepeating?: boolean }>}
   */
  const drawn = new Map()
  const read = new ReadMark()
  /** What is drawn of the outbox, by the keys. @type {Map<string, HTMLElement>} */
  const waiting = new Map()
  /** Elements whose text has changed. @type {Set<HTMLElement>} */
  const changed = new Set()
  /** @type {Message[]} */
  const unannounced = []
  let frame = 0
  let isOpened = false
  /** The message to go to once the room is there. @type {number | undefined} */
  let wanted
  /** The message that the reader is on the way to. @type {number | undefined} */
  let goal
  let complaint = ''
  /** Until then no more is loaded, because the last time failed. */
  let loadAgainAt = 0
  /** The ids of the messages that came while the reader looked elsewhere. @type {Set<number>} */
  const unread = new Set()
  let announcing = 0

  const texts = new Texts(
    (element, change) => view.keepInPlace(element, change),
    () => session.account?.nickname
  )
  const view = new View(part('scroller', HTMLElement), list, room, {
    moved() {
      drawNews()
      loadNear()
    },
    resized() {
      texts.fold([...drawn.values()].map(({ element }) => element))
      texts.fold([...waiting.values()])
    }
  })
  const menus = showMenus(list, (id) => room.messages.find((message) => message.id === id))
  document.addEventListener('visibilitychange', draw)
  newest.addEventListener('click', () => {
    part('scroller', HTMLElement).focus({ preventScroll: true }) // The button is about to disappear.
    toNewest()
  })

  /** Draws what has changed, soon. */
  function draw() {
    frame ||= document.hidden ? window.setTimeout(drawNow, HIDDEN_DRAW_MS) : requestAnimationFrame(drawNow)
  }

  /** Draws everything anew, in another language or for another reader. */
  function redraw() {
    for (const known of drawn.values()) delete known.message
    draw()
  }

  /** Begins to go somewhere: what was said about the last time is over. @param {number} [id] */
  function setOut(id) {
    goal = id
    const notice = part('notice', HTMLElement)
    if (complaint && notice.textContent === complaint) tell(notice)
    complaint = ''
  }

  /** Says why the reader cannot go there. @param {string} text */
  function complain(text) {
    complaint = text
    tell(part('notice', HTMLElement), text)
  }

  /** Goes to the newest message, wherever the view is. */
  async function toNewest() {
    setOut()
    if (room.more.newer) {
      try {
        await room.loadNewest()
      } catch (failure) {
        if (!(failure instanceof Failure)) throw failure
        complain(failure.message)
      }
    }
    if (room.more.newer) return
    drawNow()
    view.toEnd()
    drawNews()
  }

  /** Goes to a message, wherever it is in the room. @param {number} id */
  async function show(id) {
    wanted = room.cursor === undefined ? id : undefined
    if (wanted !== undefined) return
    setOut(id)
    if (!room.messages.some((message) => message.id === id)) {
      try {
        const isFound = await room.loadAround(id)
        if (goal !== id) return // The reader has gone elsewhere.
        if (isFound === undefined) return show(id) // Something else was loaded instead.
        if (!isFound) return complain(say('messageGone'))
      } catch (failure) {
        if (!(failure instanceof Failure)) throw failure
        if (goal === id) complain(failure.message)
        return
      }
    }
    drawNow()
    const element = drawn.get(id)?.element
    if (!element) return
    view.show(element)
    drawNews()
    element.classList.remove('found')
    // Only a class that was gone for a moment starts the animation again.
    requestAnimationFrame(() => element.classList.add('found'))
    within(element, '.more').focus({ preventScroll: true })
  }

  function drawNow() {
    frame = 0
    drawMessages()
    drawWaiting()
    texts.fold([...changed])
    changed.clear()
    view.settle()
    if (!isOpened && room.cursor !== undefined) openAtLine()
    drawNews()
    loadNear()
    if (wanted !== undefined) show(wanted)
  }

  /** Begins where the reader left off. */
  function openAtLine() {
    isOpened = true
    const line = list.querySelector('.unread:not([hidden])')
    if (!line) return
    view.show(line)
    for (const message of room.messages) {
      if (isByOthers(message) && message.id > (read.line ?? 0)) unread.add(message.id)
    }
  }

  function drawMessages() {
    noteRead()
    arrange(list, drawAll())
    const present = new Set(room.messages.map(({ id }) => id))
    for (const id of drawn.keys()) {
      if (!present.has(id)) drawn.delete(id)
    }
    menus.update()
    if (room.cursor === undefined || Date.now() < loadAgainAt) return
    const isEmpty = room.messages.length === 0
    top.classList.toggle('welcome', isEmpty && !room.more.older)
    if (room.more.older) top.textContent = say('loading')
    else top.textContent = say(isEmpty ? 'empty' : 'begin')
  }

  function noteRead() {
    const isLooking = room.isFollowing && !room.more.newer && !document.hidden
    if (room.cursor !== undefined) read.update(room.messages, isLooking, session.account?.userId)
  }

  /** Draws all messages, each with what follows from the one before: the day, the line, and the name. */
  function drawAll() {
    let run = 0
    return room.messages.map((message, i) => {
      const previous = room.messages[i - 1]
      const known = elementOf(message)
      const isNewDay = dayOf(message) !== dayOf(previous)
      const isUnread = read.isAbove(message, previous) && (previous !== undefined || !room.more.older)
      if (isNewDay || isUnread || !isContinued(message, previous)) run = 0
      else if (known.isRepeating || run === MAX_RUN) {
        known.isRepeating = true
        run = 0
      }
      run++
      tell(within(known.element, '.day'), isNewDay ? sayDay(new Date(message.createdAt)) : '')
      within(known.element, '.unread').hidden = !isUnread
      known.element.classList.toggle('first', run === 1)
      return known.element
    })
  }

  /** @param {Message} message */
  function elementOf(message) {
    const known = drawn.get(message.id)
    if (known?.message === message) return known
    const element = known?.element ?? make('message')
    const isOwn = message.userId === session.account?.userId
    element.classList.toggle('own', isOwn)
    within(element, '.avatar').textContent = [...message.nickname][0]?.toUpperCase() ?? ''
    element.style.setProperty('--hue', `${hueOf(message.userId)}`)
    within(element, '.author bdi').textContent = message.nickname
    within(element, '.author').id = `author-${message.id}`
    within(element, '.more').setAttribute('aria-describedby', `author-${message.id} message-${message.id}`)
    writeTime(within(element, 'time'), message)
    within(element, '.edited').hidden = message.editedAt === undefined
    within(element, '.edited').title = sayDate(new Date(message.editedAt ?? ''), 'full')
    showReplied(element, message.replyTo)
    texts.write(element, message.id, message.text)
    changed.add(element)
    element.dataset['id'] = `${message.id}`
    const now = { ...known, element, message }
    drawn.set(message.id, now)
    return now
  }

  function drawWaiting() {
    const entries = room.more.newer ? [] : outbox.visible
    const elements = entries.map(({ key, text, replyTo, failure }) => {
      const known = waiting.get(key)
      const element = known ?? make('waiting')
      showReplied(element, replyTo)
      if (!known) {
        texts.write(element, key, text)
        changed.add(element)
        waiting.set(key, element)
      }
      const isWaiting = !session.account
      within(element, '.state').textContent = isWaiting ? say('waitsForLogin') : stateOf(failure)
      showButton(element, 'retry', Boolean(failure) && !isWaiting, () => outbox.retry(key))
      showButton(element, 'discard', Boolean(failure) || isWaiting, () => outbox.discard(key))
      return element
    })
    arrange(pending, elements)
    const present = new Set(entries.map(({ key }) => key))
    for (const key of waiting.keys()) {
      if (!present.has(key)) waiting.delete(key)
    }
    tell(part('unsaved', HTMLElement), outbox.wouldLose ? say('notSaved') : '')
  }

  /** @param {Message} message */
  const isByOthers = ({ userId }) => userId !== session.account?.userId

  /** Says what is new, and where. */
  function drawNews() {
    noteRead()
    const news = room.arrived.splice(0).filter(isByOthers)
    for (const { id } of news) unread.add(id)
    const isLooking = room.isFollowing && !document.hidden
    for (const id of unread) {
      if (isLooking || room.isDeleted(id)) unread.delete(id)
    }
    const { size } = unread
    const isAway = !room.isFollowing && room.cursor !== undefined
    tell(newest, isAway ? (size ? sayCount('newMessages', size) : say('newest')) : '')
    showUnread(size)
    unannounced.push(...news)
    if (unannounced.length > 0) announcing ||= window.setTimeout(announce, ANNOUNCE_MS)
  }

  function announce() {
    announcing = 0
    const news = unannounced.splice(0).filter(({ id }) => !room.isDeleted(id))
    const lines =
      news.length > ANNOUNCE_EACH
        ? [sayCount('newMessages', news.length)]
        : news.map(({ nickname, text }) => `${nickname}: ${beginningOf(text, ANNOUNCE_CHARACTERS)}`)
    part('log', HTMLElement).replaceChildren(
      ...lines.map((line) => {
        const paragraph = document.createElement('p')
        paragraph.textContent = line
        return paragraph
      })
    )
  }

  /** Loads more at an end that is near. */
  function loadNear() {
    if (Date.now() < loadAgainAt) return
    if (view.above < NEAR_PX && room.more.older) room.loadMore('older').catch(failed)
    else if (view.below < NEAR_PX && room.more.newer) room.loadMore('newer').catch(failed)
  }

  /** @param {unknown} failure */
  function failed(failure) {
    if (!(failure instanceof Failure)) throw failure
    const pauseMs = failure.retryMs || LOAD_AGAIN_MS
    loadAgainAt = Date.now() + pauseMs
    setTimeout(draw, pauseMs)
    top.textContent = failure.message
    view.settle()
  }

  return { draw, redraw, show, toNewest }
}

/**
 * Makes these the elements of the list, in this order. Those that are in their place already stay
 * untouched, so that none loses the focus.
 * @param {HTMLElement} list @param {HTMLElement[]} elements
 */
function arrange(list, elements) {
  const wanted = new Set(/** @type {Element[]} */ (elements))
  for (const child of [...list.children]) {
    if (wanted.has(child)) continue
    if (child.contains(document.activeElement)) part('writing', HTMLElement).focus()
    child.remove()
  }
  let next = list.firstElementChild
  for (const element of elements) {
    if (element === next) next = next.nextElementSibling
    else list.insertBefore(element, next)
  }
}

/**
 * @param {HTMLElement} element
 * @param {string} name the class of the button
 * @param {boolean} isAllowed
 * @param {() => void} act
 */
function showButton(element, name, isAllowed, act) {
  const button = within(element, `.${name}`)
  button.hidden = !isAllowed
  button.onclick = act
}

/** What happens with an unsent message. @param {Failure} [failure] of the last try */
function stateOf(failure) {
  if (!failure) return say('sending')
  if (!failure.isTemporary) return `${say('notSent')} ${failure.message}`
  return failure.code === OFFLINE ? `${failure.message} ${say('sentOnceOnline')}` : failure.message
}

/** @param {Message} [message] */
const dayOf = (message) => message && new Date(message.createdAt).toDateString()

/**
 * Whether the author goes on, soon after the message before.
 * @param {Message} message @param {Message} [previous]
 */
function isContinued(message, previous) {
  if (previous?.userId !== message.userId) return false
  return Date.parse(message.createdAt) - Date.parse(previous.createdAt) <= GROUP_MS
}

/** @param {HTMLElement} element @param {Message} message */
function writeTime(element, { createdAt }) {
  const date = new Date(createdAt)
  const full = sayDate(date, 'full')
  element.setAttribute('datetime', createdAt)
  element.setAttribute('aria-label', full)
  element.title = full
  element.textContent = sayDate(date)
}
