import { manageAccount } from './account.js'
import { readPage } from './api.js'
import { writeMessages } from './composer.js'
import { follow } from './feed.js'
import { language, say, speak } from './i18n.js'
import { showList } from './list.js'
import { Outbox } from './outbox.js'
import { attempt, part, tell } from './page.js'
import { Room } from './room.js'
import { Session } from './session.js'

const session = new Session()
const room = new Room((query) => readPage(query), () => list.draw())
const outbox = new Outbox(session, room, () => list.draw())
const list = showList(room, outbox, session, { edit: (message) => composer.edit(message), delete: remove })
const composer = writeMessages((text) => {
  outbox.add(text)
  list.toNewest()
}, async ({ id }, text) => {
  room.apply([{ type: 'message_updated', message: await session.call('PATCH', `messages/${id}`, { body: { text } }) }])
}, () => room.messages.findLast(({ userId }) => userId === session.account?.userId))

/** Asks, and takes it back. @param {import('./api.js').Message} message */
function remove ({ id, text }) {
  const dialog = part('deletion', HTMLDialogElement)
  part('deleted', HTMLElement).textContent = text
  dialog.returnValue = ''
  dialog.onclose = () => {
    composer.focus()
    if (dialog.returnValue) attempt('notice', () => session.call('DELETE', `messages/${id}`).then(() => room.apply([{ type: 'message_deleted', id }])))
  }
  dialog.showModal()
}

/** Shows the page as it is for whoever is logged in, or for nobody. */
function enter () {
  const { account, ended } = session
  for (const id of ['composer', 'account', 'logout', 'entry']) part(id, HTMLElement).hidden = (id === 'entry') === Boolean(account)
  part('me', HTMLElement).textContent = account?.nickname ?? ''
  tell(part('notice', HTMLElement), ended && `${ended.message}. ${say('loginAgain')}`)
  list.redraw()
}

let wasLost = false
/** Says how the connection is. @param {'connecting' | 'live' | import('./api.js').Failure} state */
function report (state) {
  const status = part('status', HTMLElement)
  const isLive = state === 'live'
  const text = isLive ? wasLost ? say('reconnected') : '' : state === 'connecting' ? say('connecting') : `${state.message}. ${say('again')}`
  if (text || !status.classList.contains('good')) tell(status, text)
  if (text && isLive) setTimeout(() => { if (status.textContent === text) tell(status) }, 4000)
  if (text && isLive) outbox.send()
  status.classList.toggle('good', isLive)
  wasLost = !isLive
}

session.addEventListener('change', () => {
  enter()
  if (session.account) composer.focus()
  else part('entry', HTMLFormElement).querySelector('input')?.focus()
})
const choice = part('language', HTMLSelectElement)
choice.value = language
choice.onchange = () => {
  speak(choice.value === 'ru' ? 'ru' : 'en')
  list.redraw()
}
speak()
manageAccount(session)
enter()
outbox.load()
follow(room, report)
