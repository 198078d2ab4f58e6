import { Failure, read } from '../api.js'
import { say, sayCount, sayDate } from '../i18n.js'
import { tell } from '../page.js'
import { action, focusItem, loadStyles, make, showDialog } from './element.js'
import { excerpt } from './excerpt.js'

/** @typedef {import('../../schemas/messages.ts').Message} Message */

const PAGE = 20
/** Code points that a query has, as the service counts them. */
const [SHORTEST, LONGEST] = [2, 100]
/** A search begins once nothing was typed for so long. */
const PAUSE_MS = 250

/** The messages of the room by their words. */
export async function showSearch() {
  await loadStyles()
  if (document.getElementById('searching')) return
  const input = make('input', {
    id: 'query',
    type: 'search',
    maxLength: LONGEST * 2, // in units of UTF-16: an emoji may have two
    placeholder: say('searchHint'),
    ariaLabel: say('search'),
    autocomplete: 'off',
    enterKeyHint: 'search',
    dir: 'auto'
  })
  const state = make('p', { className: 'hint', role: 'status' })
  const list = make('ol', { id: 'results', className: 'list' })
  const more = action('showOlder', 'second', () => find(older))
  const close = make('form', { method: 'dialog' }, action('close', 'quiet'))
  const bar = make('search', { className: 'row' }, input, close)
  const dialog = make('dialog', { id: 'searching', ariaLabel: say('search') }, bar, state, list, more)
  let timer = 0
  let running = new AbortController()
  /** The query that goes on from the last page. */
  let older = ''
  more.hidden = true

  input.addEventListener('input', () => {
    clearTimeout(timer)
    timer = window.setTimeout(() => find(), PAUSE_MS)
  })
  input.addEventListener('keydown', ({ key }) => {
    if (key === 'Enter') find()
    if (key === 'ArrowDown') list.querySelector('a')?.focus()
  })
  list.addEventListener('keydown', (event) => {
    const links = [...list.querySelectorAll('a')]
    const at = links.findIndex((link) => link === document.activeElement)
    const goal = { ArrowDown: links[at + 1], ArrowUp: at > 0 ? links[at - 1] : input }[event.key]
    if (!goal) return
    event.preventDefault()
    goal.focus()
  })
  list.addEventListener('click', ({ target }) => {
    // The link itself goes to the message.
    if (target instanceof Element && target.closest('a')) dialog.close()
  })
  dialog.addEventListener('close', () => {
    clearTimeout(timer)
    running.abort()
  })

  /** @param {string} [page] the query of a further page; none: a new search */
  async function find(page) {
    clearTimeout(timer)
    running.abort()
    const { signal } = (running = new AbortController())
    const query = input.value.trim()
    if ([...query].length < SHORTEST) {
      list.replaceChildren()
      more.hidden = true
      dialog.ariaBusy = null
      return tell(state)
    }
    dialog.ariaBusy = 'true'
    try {
      const search = new URLSearchParams({ q: query, limit: `${PAGE}` })
      const { headers, body } = await read('GET', `search?${page ?? search}`, { signal })
      show(query, body, page !== undefined)
      // A search that takes too long stops early, and says where it goes on.
      const next = headers.get('x-search-next') ?? (body.length === PAGE ? body[0].id : undefined)
      const isLast = next === undefined
      if (isLast && more === document.activeElement) focusItem(list, -1)
      more.hidden = isLast
      if (!isLast && !list.firstElementChild) tell(state, say('nothingYet'))
      search.set('before_id', next)
      older = `${search}`
      if (headers.has('x-search-incomplete')) tell(state, say('searchIncomplete'))
    } catch (failure) {
      if (signal.aborted) return
      if (!(failure instanceof Failure)) throw failure
      tell(state, failure.status === 404 ? say('searchOff') : failure.message)
    }
    dialog.ariaBusy = null
  }

  /** @param {string} query @param {Message[]} messages ascending by id @param {boolean} isFurther */
  function show(query, messages, isFurther) {
    const items = messages.toReversed().map((message) => makeItem(query, message))
    if (isFurther) list.append(...items)
    else list.replaceChildren(...items)
    const { length } = list.children
    tell(state, length > 0 ? sayCount('results', length) : say('nothingFound'))
  }

  showDialog(dialog)
  input.focus()
}

/** @param {string} query @param {Message} message */
function makeItem(query, { id, nickname, createdAt, text }) {
  const pieces = excerpt(text, query).map((piece, i) => {
    return i % 2 === 1 ? make('mark', { textContent: piece }) : piece
  })
  const about = make(
    'span',
    { className: 'row' },
    make('b', { dir: 'auto', textContent: nickname }),
    make('time', { dateTime: createdAt, textContent: sayDate(new Date(createdAt), 'moment') })
  )
  return make('li', {}, make('a', { href: `#m${id}` }, about, make('span', { dir: 'auto' }, ...pieces)))
}
