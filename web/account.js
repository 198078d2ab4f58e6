import { say, sayDate } from './i18n.js'
import { attempt, part, tell } from './page.js'

/** The forms by which one comes in, and looks after an account. @param {import('./session.js').Session} session */
export function manageAccount (session) {
  const entry = part('entry', HTMLFormElement)
  entry.addEventListener('submit', (event) => {
    event.preventDefault()
    const data = new FormData(entry, event.submitter)
    attempt('notice', async () => {
      await session.begin(data.get('way') === 'register' ? 'register' : 'login', `${data.get('nickname')}`, `${data.get('password')}`)
      entry.reset()
    }, entry)
  })
  part('logout', HTMLButtonElement).onclick = () => attempt('notice', () => session.end())
  const settings = part('settings', HTMLDialogElement)
  const change = part('change', HTMLFormElement)
  const list = part('sessions', HTMLUListElement)
  /** @param {string} tag @param {string} textContent */
  const make = (tag, textContent) => Object.assign(document.createElement(tag), { textContent })
  async function show () {
    /** @type {import('../schemas/accounts.ts').ActiveSession[]} */
    const sessions = await session.call('GET', 'sessions')
    list.replaceChildren(...sessions.map(({ id, createdAt, lastSeenAt, current }) => {
      const item = document.createElement('li')
      const end = make(current ? 'b' : 'button', say(current ? 'thisOne' : 'end'))
      if (!current) end.onclick = () => attempt('settings-notice', () => session.call('DELETE', `sessions/${id}`).then(show))
      item.append(make('span', `${say('since')} ${sayDate(new Date(createdAt), 'moment')}, ${say('lastSeen')} ${sayDate(new Date(lastSeenAt), 'moment')}`), end)
      return item
    }))
  }
  part('account', HTMLButtonElement).onclick = () => {
    list.replaceChildren()
    change.reset()
    part('owner', HTMLInputElement).value = session.account?.nickname ?? ''
    settings.showModal()
    attempt('settings-notice', show)
  }
  part('end-others', HTMLButtonElement).onclick = () => attempt('settings-notice', () => session.call('DELETE', 'sessions').then(show))
  change.onsubmit = (event) => {
    event.preventDefault()
    const data = new FormData(change)
    attempt('settings-notice', async () => {
      await session.call('PUT', 'password', { body: { currentPassword: data.get('current'), newPassword: data.get('next') }, patienceMs: 20_000 })
      change.reset()
      await show()
      tell(part('settings-notice', HTMLElement), say('passwordChanged'))
    }, change)
  }
  session.addEventListener('change', () => { if (!session.account) settings.close() })
}
