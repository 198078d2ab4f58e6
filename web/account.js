import { Failure } from './api.js'
import { say, sayDate } from './i18n.js'
import { attempt, part, tell } from './page.js'

/**
 * The forms by which one logs in and looks after an account.
 * @param {import('./session.js').Session} session
 */
export function manageAccount(session) {
  const entry = part('entry', HTMLFormElement)
  const settings = part('settings', HTMLDialogElement)
  const change = part('change', HTMLFormElement)
  const list = part('sessions', HTMLUListElement)

  entry.addEventListener('submit', (event) => {
    event.preventDefault()
    const data = new FormData(entry, event.submitter)
    const way = data.get('way') === 'register' ? 'register' : 'login'
    attempt(
      'notice',
      async () => {
        await session.begin(way, `${data.get('nickname')}`, `${data.get('password')}`)
        entry.reset()
      },
      entry
    )
  })
  part('logout', HTMLButtonElement).onclick = () => attempt('notice', () => session.end())

  async function showSessions() {
    /** @type {import('../schemas/accounts.ts').Session[]} */
    const sessions = await session.call('GET', 'sessions')
    list.replaceChildren(...sessions.map(makeItem))
  }

  /** @param {import('../schemas/accounts.ts').Session} session */
  function makeItem({ id, createdAt, lastSeenAt, current }) {
    const since = `${say('since')} ${sayDate(new Date(createdAt), 'moment')}`
    const lastSeen = `${say('lastSeen')} ${sayDate(new Date(lastSeenAt), 'moment')}`
    const item = document.createElement('li')
    item.append(makeElement('span', `${since}, ${lastSeen}`))
    if (current) item.append(makeElement('b', say('thisOne')))
    else {
      const end = makeElement('button', say('end'))
      end.onclick = () =>
        attempt('settings-notice', async () => {
          await session.call('DELETE', `sessions/${id}`)
          await showSessions()
        })
      item.append(end)
    }
    return item
  }

  part('account', HTMLButtonElement).onclick = () => {
    list.replaceChildren()
    change.reset()
    part('owner', HTMLInputElement).value = session.account?.nickname ?? ''
    settings.showModal()
    attempt('settings-notice', showSessions)
  }
  part('end-others', HTMLButtonElement).onclick = () =>
    attempt('settings-notice', async () => {
      await session.call('DELETE', 'sessions')
      await showSessions()
    })
  change.onsubmit = (event) => {
    event.preventDefault()
    const data = new FormData(change)
    attempt(
      'settings-notice',
      async () => {
        const body = { currentPassword: data.get('current'), newPassword: data.get('next') }
        await session.call('PUT', 'password', { body, patienceMs: 20_000 }).catch(explain)
        change.reset()
        await showSessions()
        const notice = part('settings-notice', HTMLElement)
        notice.classList.add('good')
        tell(notice, say('passwordChanged'))
      },
      change
    )
  }
  session.addEventListener('change', () => {
    if (!session.account) settings.close()
  })
}

/** Here it cannot be the nickname that is wrong. @param {unknown} failure @returns {never} */
function explain(failure) {
  if (failure instanceof Failure && failure.code === 'invalid_credentials') {
    throw new Failure(say('passwordWrong'), failure.status, failure.code)
  }
  throw failure
}

/** @param {string} tag @param {string} text */
function makeElement(tag, text) {
  const element = document.createElement(tag)
  element.textContent = text
  return element
}
