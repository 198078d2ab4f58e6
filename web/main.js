import { manageAccount } from './account.js'
import { alertReader } from './alerts.js'
import { Failure, readPage } from './api.js'
import { completeNames } from './complete.js'
import { isEditable, writeMessages } from './composer.js'
import { copyText, copyWithAuthors } from './copy.js'
import { follow } from './feed.js'
import { language, say, speak, switchTo } from './i18n.js'
import { followLinks, linkTo } from './links.js'
import { showList } from './list.js'
import { addToMenu } from './menu.js'
import { showRules } from './moderation.js'
import { Outbox } from './outbox.js'
import { attempt, loaded, part, rescueFocus, tell, tellBriefly } from './page.js'
import { Room } from './room.js'
import { Session } from './session.js'
import { beginningOf } from './text.js'
import { showTopic } from './topic.js'

/** @typedef {import('./api.js').Message} Message */

/** How much of a message is shown in the dialog that asks whether to delete it. */
const [DELETION_CHARACTERS, DELETION_LINES] = [1000, 20]

await speak()
const session = new Session()
const room = new Room((query) => readPage(query))
const tellReader = alertReader(session)
const topic = showTopic(room)
const outbox = new Outbox(session, room, () => {
  list.draw()
  rules.draw()
})
const list = showList(room, outbox, session)
completeNames(room, () => session.account?.nickname)
const composer = writeMessages(send, change, lastOfMine)
/** @param {Message} message */
const isMine = ({ userId }) => userId === session.account?.userId
addToMenu(
  {
    label: () => say('reply'),
    isOffered: () => session.account !== undefined,
    act: (message) => composer.reply(message)
  },
  { label: () => say('copyText'), act: ({ text }) => copy(text) },
  { label: () => say('copyLink'), act: ({ id }) => copy(linkTo(id)) },
  {
    label: () => say('edit'),
    isOffered: (message) => isMine(message) && isEditable(message),
    act: (message) => composer.edit(message)
  },
  {
    label: () => say('delete'),
    isOffered: (message) => isMine(message) || rules.isModerator(),
    act: remove,
    isDangerous: true
  }
)
const rules = showRules(room, outbox, session)
room.addEventListener('change', () => {
  tellReader(room.arrived)
  list.draw()
  topic.draw()
  rules.draw()
})

/** @param {string} text */
async function copy(text) {
  if (!(await copyText(text))) tell(part('notice', HTMLElement), say('notCopied'))
}

/** @param {string} text @param {import('./replies.js').Replied} [replyTo] */
function send(text, replyTo) {
  tell(part('notice', HTMLElement)) // It is about something earlier.
  outbox.add(text, replyTo)
  list.toNewest()
}

/** @param {{ id: number }} message @param {string} text @throws {import('./api.js').Failure} */
async function change({ id }, text) {
  const message = await session.callPatiently('PATCH', `messages/${id}`, { body: { text } })
  room.apply([{ type: 'message_updated', message }])
}

function lastOfMine() {
  const message = room.messages.findLast(({ userId }) => userId === session.account?.userId)
  return message && isEditable(message) ? message : undefined
}

/** Deletes a message, after asking. @param {Message} message */
function remove({ id, text }) {
  const dialog = part('deletion', HTMLDialogElement)
  part('deleted', HTMLElement).textContent = beginningOf(text, DELETION_CHARACTERS, DELETION_LINES)
  dialog.returnValue = ''
  dialog.onclose = () => {
    if (!dialog.returnValue) return rescueFocus() // Otherwise the focus is where it was.
    composer.focus()
    attempt('notice', async () => {
      await session.callPatiently('DELETE', `messages/${id}`)
      room.apply([{ type: 'message_deleted', id }])
    })
  }
  dialog.showModal()
}

/** Shows the page as it is for the current user, or for nobody. */
function enter() {
  const { account, ended, former } = session
  composer.belongTo((account ?? former)?.userId)
  for (const id of ['account', 'logout']) part(id, HTMLElement).hidden = !account
  // A draft stays visible when its author has to log in again.
  const form = part('composer', HTMLFormElement)
  form.inert = !account
  form.hidden = !account && !(former && part('text', HTMLTextAreaElement).value)
  if (former) part('nickname', HTMLInputElement).value = former.nickname
  part('entry', HTMLElement).hidden = Boolean(account)
  part('me', HTMLElement).textContent = account?.nickname ?? ''
  // An account that is no more cannot log in.
  tell(part('notice', HTMLElement), ended && (former ? `${ended} ${say('loginAgain')}` : ended))
  list.redraw()
}

let wasLost = false
/** Says how the connection is. @param {'connecting' | 'live' | import('./api.js').Failure} state */
function report(state) {
  const status = part('status', HTMLElement)
  if (state === 'live') {
    if (wasLost || !room.settings) topic.refresh()
    if (wasLost) {
      tellBriefly(say('reconnected'))
      outbox.send()
    } else if (!status.classList.contains('good')) tell(status)
  } else {
    tell(status, state === 'connecting' ? say('connecting') : `${state.message} ${say('again')}`)
  }
  wasLost = state !== 'live'
  status.classList.toggle('good', !wasLost)
}

session.addEventListener('change', () => {
  enter()
  if (session.account) composer.focus()
  else part(session.former ? 'password' : 'nickname', HTMLInputElement).focus()
})
const choice = part('language', HTMLSelectElement)
choice.value = language
choice.onchange = async () => {
  const { value } = choice
  try {
    const isSwitched = await loaded(`i18n/${value}.js`, async () => value === choice.value && switchTo(value))
    if (!isSwitched) return
    tell(part('notice', HTMLElement)) // It is in the other language.
    entry.draw()
    list.redraw()
    topic.draw(true)
    rules.draw()
  } catch (failure) {
    if (!(failure instanceof Failure)) throw failure
    choice.value = language
    tell(part('notice', HTMLElement), failure.message)
  }
}
part('search', HTMLButtonElement).onclick = () =>
  attempt('notice', async () => {
    const { showSearch } = await loaded('panels/search.js', () => import('./panels/search.js'))
    await showSearch()
  })
const entry = manageAccount(session)
copyWithAuthors(part('messages', HTMLElement), (id) => room.messages.find((message) => message.id === id))
enter()
outbox.load()
followLinks((id) => list.show(id))
follow(room, report)
