import { Failure } from './api.js'
import { say, sayDate, sayDay, sayNew } from './i18n.js'
import { make, part, tell, within } from './page.js'

/** @typedef {import('../schemas/messages.ts').Message} Message */

const GROUP_MS = 5 * 60_000
// Pixels from an end at which more is loaded, and from the newest message that still count as being there.
const [NEAR, AT_END] = [800, 40]
// How often somebody who listens is told of what is new, and of how many one by one.
const [ANNOUNCE_MS, ANNOUNCE_EACH] = [2000, 3]

/**
 * The messages on the page: never more elements than the room has messages, and drawn once for each frame, however much happens.
 * @param {import('./room.js').Room} room @param {import('./outbox.js').Outbox} outbox @param {import('./session.js').Session} session
 * @param {{ edit: (message: Message) => void, delete: (message: Message) => void }} actions
 */
export function showList (room, outbox, session, actions) {
  const [scroller, top, list] = [part('scroller', HTMLElement), part('top', HTMLElement), part('messages', HTMLOListElement)]
  const [pending, newest] = [part('pending', HTMLOListElement), part('newest', HTMLButtonElement)]
  /** @type {Map<number, { element: HTMLElement, message: Message }>} */
  const drawn = new Map()
  /** @type {Message[]} */
  const unannounced = []
  let [frame, unread, announcing] = [0, 0, 0]
  /** Draws what has changed, soon. */
  const draw = () => { frame ||= document.hidden ? window.setTimeout(drawNow, 1000) : requestAnimationFrame(drawNow) }
  /** Draws everything anew, in another language or for another reader. */
  function redraw () {
    drawn.clear()
    list.replaceChildren()
    draw()
  }
  /** Goes to the newest message, wherever the view is. */
  async function toNewest () {
    if (room.more.newer) await room.loadNewest().catch(() => {}) // the feed says why
    room.isFollowing = !room.more.newer
    draw()
  }
  const below = () => scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight
  scroller.addEventListener('scroll', () => {
    room.isFollowing = !room.more.newer && below() < AT_END
    draw()
  }, { passive: true })
  new ResizeObserver(draw).observe(scroller)
  document.addEventListener('visibilitychange', draw)
  newest.addEventListener('click', toNewest)
  function drawNow () {
    frame = 0
    // What the reader looks at stays where it is, whatever comes and goes above it.
    const edge = scroller.getBoundingClientRect().top
    const anchor = room.isFollowing ? undefined : [...list.children].find((element) => element.getBoundingClientRect().bottom > edge)
    const before = anchor?.getBoundingClientRect().top ?? 0
    drawMessages()
    const waiting = room.more.newer ? [] : outbox.visible
    pending.replaceChildren(...waiting.map(({ key, text, failure }) => {
      const element = make('waiting')
      write(within(element, '.text'), text)
      within(element, '.state').textContent = failure ? `${failure.isTemporary ? '' : say('notSent')}${failure.message}` : say('sending')
      for (const action of /** @type {const} */ (['retry', 'discard'])) show(element, action, Boolean(failure), () => outbox[action](key))
      return element
    }))
    drawNews()
    if (room.isFollowing) scroller.scrollTop = scroller.scrollHeight
    else if (anchor?.isConnected) scroller.scrollTop += anchor.getBoundingClientRect().top - before
    const end = scroller.scrollTop < NEAR && room.more.older ? 'older' : below() < NEAR && room.more.newer ? 'newer' : undefined
    if (end) room.loadMore(end).catch(failed)
  }
  function drawMessages () {
    const present = new Set(room.messages.map(({ id }) => id))
    for (const [id, { element }] of drawn) {
      if (present.has(id)) continue
      if (element.contains(document.activeElement)) part('writing', HTMLElement).focus()
      element.remove()
      drawn.delete(id)
    }
    let next = list.firstElementChild
    room.messages.forEach((message, i) => {
      const element = elementOf(message)
      if (element === next) next = next.nextElementSibling
      else list.insertBefore(element, next)
      group(element, message, room.messages[i - 1])
    })
    if (room.cursor !== undefined) top.textContent = say(room.messages.length === 0 ? 'empty' : room.more.older ? 'loading' : 'begin')
  }
  /** @param {Message} message */
  function elementOf (message) {
    const known = drawn.get(message.id)
    if (known?.message === message) return known.element
    const element = known?.element ?? make('message')
    const isOwn = message.userId === session.account?.userId
    element.classList.toggle('own', isOwn)
    within(element, '.avatar').textContent = [...message.nickname][0]?.toUpperCase() ?? ''
    within(element, '.avatar').style.setProperty('--hue', `${message.userId * 137 % 360}`)
    within(element, '.author').textContent = message.nickname
    write(within(element, '.text'), message.text)
    within(element, 'time').setAttribute('datetime', message.createdAt)
    within(element, 'time').textContent = sayDate(new Date(message.createdAt))
    for (const action of /** @type {const} */ (['edit', 'delete'])) show(element, action, isOwn, () => actions[action](message))
    element.dataset['id'] = `${message.id}`
    drawn.set(message.id, { element, message })
    return element
  }
  function drawNews () {
    const news = room.arrived.splice(0).filter(({ userId }) => userId !== session.account?.userId)
    unread = room.isFollowing && !document.hidden ? 0 : unread + news.length
    tell(newest, room.isFollowing || room.cursor === undefined ? '' : unread ? sayNew(unread) : say('newest'))
    document.title = (unread ? `(${unread}) ` : '') + say('title')
    unannounced.push(...news)
    if (unannounced.length > 0) announcing ||= window.setTimeout(announce, ANNOUNCE_MS)
  }
  function announce () {
    announcing = 0
    const news = unannounced.splice(0)
    const lines = news.length > ANNOUNCE_EACH ? [sayNew(news.length)] : news.map(({ nickname, text }) => `${nickname}: ${text}`)
    part('log', HTMLElement).replaceChildren(...lines.map((line) => Object.assign(document.createElement('p'), { textContent: line })))
  }
  /** @param {unknown} failure */
  function failed (failure) {
    if (!(failure instanceof Failure)) throw failure
    top.textContent = failure.message
    setTimeout(draw, failure.retryMs || 3000)
  }
  return { draw, redraw, toNewest }
}

/** @param {HTMLElement} element @param {string} action the class of its button @param {boolean} isAllowed @param {() => void} act */
function show (element, action, isAllowed, act) {
  const button = within(element, `.${action}`)
  button.hidden = !isAllowed
  button.onclick = act
}

/** Sets what follows from the message before: whose it is, and on which day. @param {HTMLElement} element @param {Message} message @param {Message} [previous] */
function group (element, message, previous) {
  const [date, last] = [new Date(message.createdAt), new Date(previous?.createdAt ?? 0)]
  const isNewDay = date.toDateString() !== last.toDateString()
  tell(within(element, '.day'), isNewDay ? sayDay(date) : '')
  element.classList.toggle('first', isNewDay || previous?.userId !== message.userId || date.getTime() - last.getTime() > GROUP_MS)
}

/** Writes a text as text, in which an address of the web is a link. @param {HTMLElement} place @param {string} text */
function write (place, text) {
  place.replaceChildren(...text.split(/(https?:\/\/[^\s<>"]*[^\s<>"'.,:;!?)\]])/i).map((piece, i) => i % 2 === 0 || !URL.canParse(piece)
    ? piece
    : Object.assign(document.createElement('a'), { href: piece, textContent: piece, target: '_blank', rel: 'noopener noreferrer nofollow' })))
  place.classList.toggle('emoji', /^\p{RGI_Emoji}{1,3}$/v.test(text))
}
