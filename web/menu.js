import { part, rescueFocus, within } from './page.js'

/** @typedef {import('../schemas/messages.ts').Message} Message */

/**
 * Something that can be done with a message.
 * @typedef {object} Entry
 * @property {() => string} label
 * @property {(message: Message) => boolean} [isOffered] default: for every message
 * @property {(message: Message) => void} act is called once the menu is closed
 * @property {boolean} [isDangerous]
 */

/** How long a finger rests on a message to open its menu, and by how many pixels it may move meanwhile. */
const LONG_PRESS_MS = 500
const FINGER_PX = 10
/** The smallest distance from the edges of the window. */
const MARGIN_PX = 8

/** @type {Entry[]} */
const entries = []

/** Adds entries to the menu of every message, below those that are there. @param {Entry[]} added */
export function addToMenu(...added) {
  entries.push(...added)
}

/**
 * The menu of a message. It opens by the button of the message, a right click, the keyboard (the button is
 * the one tab stop of a message; arrow keys go from message to message), or a finger that rests on it.
 * @param {HTMLElement} list whose children are messages and have a `data-id`
 * @param {(id: number) => Message | undefined} find the message as it is now
 * @returns {{ update: () => void }} `update` closes the menu of a message that is gone
 */
export function showMenus(list, find) {
  const menu = part('menu', HTMLElement)
  /** @type {{ item: HTMLElement, id: number, focused: Element | null } | undefined} */
  let opened

  const itemOf = (/** @type {EventTarget | null} */ target) => {
    const item = target instanceof Element ? target.closest('[data-id]') : null
    return item instanceof HTMLElement && list.contains(item) ? item : undefined
  }
  const buttons = () => /** @type {HTMLElement[]} */ ([...menu.children])

  /**
   * @param {HTMLElement} item
   * @param {{ x: number, y: number, isEnd?: boolean }} place of a corner of the menu: the one at its left,
   *   or at its right
   */
  function open(item, { x, y, isEnd = false }) {
    const id = Number(item.dataset['id'])
    const message = find(id)
    if (!message) return
    const focused = opened?.focused ?? document.activeElement
    close()
    opened = { item, id, focused }
    item.classList.add('chosen')
    within(item, '.more').ariaExpanded = 'true'
    const offered = entries.filter(({ isOffered }) => !isOffered || isOffered(message))
    menu.replaceChildren(...offered.map(makeButton))
    menu.hidden = false
    const { offsetWidth: width, offsetHeight: height } = menu
    const left = Math.min(isEnd ? x - width : x, innerWidth - width - MARGIN_PX)
    const top = Math.min(y, innerHeight - height - MARGIN_PX)
    menu.style.left = `${Math.max(MARGIN_PX, left)}px`
    menu.style.top = `${Math.max(MARGIN_PX, top)}px`
    buttons()[0]?.focus({ preventScroll: true })
  }

  function close() {
    if (!opened) return
    const { item, focused } = opened
    opened = undefined
    item.classList.remove('chosen')
    within(item, '.more').ariaExpanded = 'false'
    const hadFocus = menu.contains(document.activeElement)
    menu.hidden = true
    if (!hadFocus) return
    if (focused instanceof HTMLElement) focused.focus({ preventScroll: true })
    rescueFocus() // The message may have been deleted.
  }

  /** @param {Entry} entry */
  function makeButton({ label, act, isDangerous = false }) {
    const button = document.createElement('button')
    button.type = 'button'
    button.role = 'menuitem'
    button.tabIndex = -1
    button.textContent = label()
    button.classList.toggle('danger', isDangerous)
    button.addEventListener('click', () => {
      const message = opened && find(opened.id)
      close()
      if (message) act(message)
    })
    return button
  }

  menu.addEventListener('keydown', (event) => {
    const all = buttons()
    const at = all.findIndex((button) => button === document.activeElement)
    const goal = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: -1 }[event.key]
    if (goal !== undefined) all.at(goal % all.length)?.focus()
    else if (event.key === 'Escape' || event.key === 'Tab') close()
    else return
    // A Tab goes on from where the focus was before the menu opened.
    if (event.key !== 'Tab') event.preventDefault()
  })
  menu.addEventListener('focusout', ({ relatedTarget }) => {
    if (relatedTarget instanceof Node && !menu.contains(relatedTarget)) close()
  })
  const closeOutside = (/** @type {Event} */ { target }) => {
    if (!(target instanceof Node) || !menu.contains(target)) close()
  }
  document.addEventListener('pointerdown', closeOutside, true)
  document.addEventListener('wheel', closeOutside, { capture: true, passive: true })
  addEventListener('resize', close)

  list.addEventListener('click', ({ target }) => {
    const item = itemOf(target)
    const button = target instanceof Element && target.closest('.more')
    if (!item || !button) return
    const { right, bottom } = button.getBoundingClientRect()
    open(item, { x: right, y: bottom, isEnd: true })
  })
  list.addEventListener('keydown', (event) => {
    const item = itemOf(event.target)
    if (!item || !within(item, '.more').matches(':focus')) return
    const { previousElementSibling: previous, nextElementSibling: next } = item
    const goal = { ArrowUp: previous, ArrowDown: next }[event.key]
    if (!(goal instanceof HTMLElement)) return
    event.preventDefault()
    within(goal, '.more').focus()
  })
  list.addEventListener('contextmenu', (event) => {
    const item = itemOf(event.target)
    if (!item || wantsOwnMenu(event.target, item)) return
    event.preventDefault()
    open(item, { x: event.clientX, y: event.clientY })
  })

  // Safari on a phone has no `contextmenu` event.
  let press = 0
  let isLong = false
  let start = { x: 0, y: 0 }
  const release = () => clearTimeout(press)
  list.addEventListener('pointerdown', ({ target, pointerType, clientX: x, clientY: y }) => {
    release()
    const item = itemOf(target)
    if (pointerType !== 'touch' || !item || wantsOwnMenu(target, item)) return
    isLong = false
    start = { x, y }
    press = window.setTimeout(() => {
      isLong = true
      open(item, start)
    }, LONG_PRESS_MS)
  })
  list.addEventListener('pointermove', ({ clientX, clientY }) => {
    if (Math.hypot(clientX - start.x, clientY - start.y) > FINGER_PX) release()
  })
  for (const name of ['pointerup', 'pointercancel']) list.addEventListener(name, release)
  list.addEventListener('touchend', (event) => {
    // Else it is a click as well, and takes the focus from the menu.
    if (isLong && event.cancelable) event.preventDefault()
    isLong = false
  })

  return {
    update() {
      if (opened && !find(opened.id)) close()
    }
  }
}

/**
 * Whether the browser's own menu is of more use: for links, controls, and text that is selected.
 * @param {EventTarget | null} target @param {HTMLElement} item
 */
function wantsOwnMenu(target, item) {
  if (target instanceof Element && target.closest('a, button')) return !target.closest('.more')
  const selection = getSelection()
  return Boolean(selection && !selection.isCollapsed && selection.containsNode(item, true))
}
