import { Failure } from './api.js'
import { say } from './i18n.js'
import { attempt, loaded, part } from './page.js'
import { reveal } from './secret.js'

/** @typedef {'login' | 'register'} Way */

/**
 * The form by which one logs in or creates an account, and the way to the panel of the account.
 * @param {import('./session.js').Session} session
 */
export function manageAccount(session) {
  const form = part('entry', HTMLFormElement)
  const nickname = part('nickname', HTMLInputElement)
  const password = part('password', HTMLInputElement)
  const login = part('login', HTMLButtonElement)
  const register = part('register', HTMLButtonElement)
  const offer = part('offer', HTMLElement)
  const create = part('create', HTMLButtonElement)

  /** For whom the form offers to create an account; empty: nobody. */
  let offered = ''

  reveal(part('reveal', HTMLButtonElement), password)

  /** What Enter does, and what a password manager makes of the password. @param {Way} way */
  function prefer(way) {
    const [first, second] = way === 'login' ? [login, register] : [register, login]
    first.after(second)
    first.classList.remove('second')
    second.classList.add('second')
    password.autocomplete = way === 'login' ? 'current-password' : 'new-password'
  }

  /** Offers to create an account. @param {string} [name] none: no longer */
  function offerAccount(name = '') {
    offered = name
    offer.hidden = !name
    part('join', HTMLElement).hidden = Boolean(name)
    create.textContent = say('createAs', { nickname: name })
  }

  /** Whoever has not typed anything yet should have a new password suggested. */
  register.addEventListener('click', (event) => {
    prefer('register')
    const empty = [nickname, password].find(({ value }) => !value)
    if (!empty) return
    event.preventDefault()
    empty.focus()
  })
  login.addEventListener('click', () => prefer('login'))
  create.addEventListener('click', () => {
    prefer('register')
    form.requestSubmit(register)
  })

  form.addEventListener('submit', (event) => {
    event.preventDefault()
    const data = new FormData(form, event.submitter)
    /** @type {Way} */
    const way = data.get('way') === 'register' ? 'register' : 'login'
    const name = `${data.get('nickname')}`.trim()
    offerAccount()
    attempt(
      'notice',
      async () => {
        try {
          await session.begin(way, name, `${data.get('password')}`)
        } catch (failure) {
          const isUnknown = failure instanceof Failure && failure.code === 'invalid_credentials'
          if (way === 'login' && isUnknown) offerAccount(name)
          throw failure
        }
        form.reset()
        prefer('login')
      },
      form
    )
  })
  part('logout', HTMLButtonElement).onclick = () => attempt('notice', () => session.end())
  part('account', HTMLButtonElement).onclick = () =>
    attempt('notice', async () => {
      const { showAccount } = await loaded('panels/account.js', () => import('./panels/account.js'))
      await showAccount(session)
    })
  return {
    /** To be called after the language has changed. */
    draw: () => offerAccount(offered)
  }
}
