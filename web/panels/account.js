import { copyText } from '../copy.js'
import { setSound, setWish, wantsSound, wish } from '../alerts.js'
import { Failure } from '../api.js'
import { say, sayDate } from '../i18n.js'
import { attempt, part, tell, tellBriefly } from '../page.js'
import { reveal } from '../secret.js'
import { PASSWORD_TIMEOUT_MS } from '../session.js'
import { action, field, focusItem, loadStyles, make, replaceContent, showDialog } from './element.js'
import { readUserAgent } from './user-agent.js'

/** @typedef {import('../../schemas/accounts.ts').Session} ActiveSession */
/** @typedef {import('../../schemas/accounts.ts').ApiToken} ApiToken */
/** @typedef {import('../session.js').Session} Session */

const NOTICE = 'settings-notice'

/** The panel for the current user's account. @param {Session} session */
export async function showAccount(session) {
  await loadStyles()
  const { account } = session
  if (!account || document.getElementById('settings')) return
  const title = make('h2', { id: 'settings-title', textContent: say('account') })
  const dialog = make(
    'dialog',
    { id: 'settings' },
    make('form', { method: 'dialog', className: 'row' }, title, button('close', 'quiet')),
    make(
      'p',
      { className: 'row who' },
      make('bdi', { textContent: account.nickname }),
      action('logOut', 'second', () => attempt('notice', () => session.end()))
    ),
    make('p', { id: NOTICE, role: 'alert', hidden: true }),
    alertsOf(),
    ...sessionsOf(session),
    make('h3', { textContent: say('changePassword') }),
    passwordOf(session),
    tokensOf(session),
    deletionOf(session)
  )
  dialog.setAttribute('aria-labelledby', title.id)
  const leave = () => {
    if (session.account?.userId !== account.userId) dialog.close()
  }
  session.addEventListener('change', leave)
  dialog.addEventListener('close', () => session.removeEventListener('change', leave))
  showDialog(dialog)
  await attempt(NOTICE, () => showSessions(session))
}

/** @param {import('../i18n.js').Key} text @param {string} [className] */
const button = (text, className = '') => make('button', { className, textContent: say(text) })

/**
 * A field for a password. @param {import('../i18n.js').Key} text of its label
 * @param {string} name @param {'current-password' | 'new-password'} autocomplete
 */
function secretField(text, name, autocomplete) {
  const id = `secret-${name}`
  const input = make('input', { id, name, type: 'password', autocomplete, required: true })
  const place = make('span', { className: 'secret' }, input, make('button', { className: 'quiet reveal' }))
  return make('div', { className: 'field' }, make('label', { htmlFor: id, textContent: say(text) }), place)
}

/** Makes the buttons work that show the passwords. @param {HTMLFormElement} form */
function withReveal(form) {
  for (const toggle of form.querySelectorAll('button')) {
    const input = toggle.previousElementSibling
    if (input instanceof HTMLInputElement && toggle.matches('.reveal')) reveal(toggle, input)
  }
  return form
}

/** Here it cannot be the nickname that is wrong. @param {unknown} failure @returns {never} */
function explain(failure) {
  if (failure instanceof Failure && failure.code === 'invalid_credentials') {
    throw new Failure(say('passwordWrong'), failure.status, failure.code)
  }
  throw failure
}

/** Says that something went well, on the page where the panel is closed already. @param {string} text */
function tellGoodNews(text) {
  const notice = document.getElementById(NOTICE)
  if (!notice) return tellBriefly(text)
  notice.classList.add('good')
  tell(notice, text)
  notice.scrollIntoView({ block: 'nearest' })
}

/** Which messages cause a notification, and how. */
function alertsOf() {
  const labels = /** @type {const} */ ({ none: 'notifyNone', mentions: 'notifyMentions', all: 'notifyAll' })
  const choice = make(
    'select',
    { id: 'notify' },
    ...Object.entries(labels).map(([value, label]) => make('option', { value, textContent: say(label) }))
  )
  choice.value = wish()
  choice.addEventListener('change', async () => {
    const chosen = /** @type {import('../alerts.js').Wish} */ (choice.value)
    const notice = part(NOTICE, HTMLElement)
    tell(notice, (await setWish(chosen)) ? '' : say('notifyRefused'))
  })
  const sound = make('input', { type: 'checkbox', id: 'sound', checked: wantsSound() })
  sound.addEventListener('change', () => setSound(sound.checked))
  const check = make('label', { className: 'check' }, sound, say('sound'))
  return make('div', {}, field(say('notifications'), choice), check)
}

/** @param {Session} session */
function sessionsOf(session) {
  const endOthers = action('endOthers', 'second', () =>
    attempt(NOTICE, async () => {
      await session.call('DELETE', 'sessions')
      await showSessions(session)
    })
  )
  endOthers.id = 'end-others'
  return [
    make('h3', { textContent: say('sessions') }),
    make('ul', { id: 'sessions', className: 'list' }),
    endOthers
  ]
}

/** @param {Session} session @throws {Failure} */
async function showSessions(session) {
  /** @type {ActiveSession[]} */
  const sessions = await session.call('GET', 'sessions')
  const list = document.getElementById('sessions')
  const endOthers = document.getElementById('end-others')
  if (!list || !endOthers) return
  replaceContent(list, ...sessions.map((each) => sessionItem(session, each)))
  if (sessions.length < 2 && endOthers === document.activeElement) focusItem(list, 0)
  endOthers.hidden = sessions.length < 2
}

/** @param {Session} session @param {ActiveSession} each */
function sessionItem(session, { id, createdAt, lastSeenAt, current, userAgent }) {
  const { browser, system } = readUserAgent(userAgent)
  const device = browser && system ? say('browserOn', { browser, system }) : (browser ?? system)
  const times = [
    say('lastActive', { time: sayDate(new Date(lastSeenAt), 'moment') }),
    say('loggedIn', { time: sayDate(new Date(createdAt), 'moment') })
  ]
  const what = make(
    'div',
    {},
    make('b', { textContent: device ?? say('unknownDevice') }),
    make('small', { textContent: times.join(' · ') })
  )
  if (current) return make('li', {}, what, make('span', { className: 'badge', textContent: say('thisOne') }))
  const end = action('end', 'second', () =>
    attempt(NOTICE, async () => {
      await session.call('DELETE', `sessions/${id}`)
      await showSessions(session)
    })
  )
  return make('li', {}, what, end)
}

/**
 * Tells password managers whose password a form asks for.
 * @param {Session} session
 */
function hiddenNickname(session) {
  return make('input', { autocomplete: 'username', hidden: true, value: session.account?.nickname ?? '' })
}

/** @param {Session} session */
function passwordOf(session) {
  const form = make(
    'form',
    { id: 'change' },
    hiddenNickname(session),
    secretField('currentPassword', 'current', 'current-password'),
    secretField('newPassword', 'next', 'new-password'),
    make('p', { className: 'row' }, button('changePassword'))
  )
  form.addEventListener('submit', (event) => {
    event.preventDefault()
    const data = new FormData(form)
    attempt(
      NOTICE,
      async () => {
        const body = { currentPassword: data.get('current'), newPassword: data.get('next') }
        await session.call('PUT', 'password', { body, timeoutMs: PASSWORD_TIMEOUT_MS }).catch(explain)
        form.reset()
        await showSessions(session).catch((failure) => {
          // The password is changed all the same.
          if (!(failure instanceof Failure)) throw failure
        })
        tellGoodNews(say('passwordChanged'))
      },
      form
    )
  })
  return withReveal(form)
}

/** @param {Session} session */
function tokensOf(session) {
  const list = make('ul', { id: 'tokens', className: 'list', tabIndex: -1 })
  const fresh = make('div', { id: 'fresh-token', hidden: true })

  async function showTokens() {
    /** @type {ApiToken[]} */
    const tokens = await session.call('GET', 'tokens')
    replaceContent(list, ...tokens.map(tokenItem))
  }

  /** @param {ApiToken} token */
  function tokenItem({ id, name, createdAt, lastUsedAt }) {
    const used = lastUsedAt
      ? say('lastUsed', { time: sayDate(new Date(lastUsedAt), 'moment') })
      : say('neverUsed')
    const created = say('created', { time: sayDate(new Date(createdAt), 'moment') })
    const revoke = action('revoke', 'second', () =>
      attempt(NOTICE, async () => {
        await session.call('DELETE', `tokens/${id}`)
        fresh.hidden = true
        await showTokens()
      })
    )
    revoke.ariaLabel = `${say('revoke')}: ${name}`
    return make(
      'li',
      {},
      make(
        'div',
        {},
        make('b', { dir: 'auto', textContent: name }),
        make('small', { textContent: `${used} · ${created}` })
      ),
      revoke
    )
  }

  /** @param {string} token */
  function showOnce(token) {
    const text = make('input', { readOnly: true, value: token, className: 'token' })
    const copy = action('copy', '', async () => {
      text.select()
      copy.textContent = say((await copyText(token)) ? 'copied' : 'notCopied')
    })
    fresh.replaceChildren(field(say('tokenOnce'), text), make('p', { className: 'row' }, copy))
    fresh.hidden = false
    text.focus()
    text.select()
  }

  const name = make('input', {
    name: 'name',
    required: true,
    maxLength: 64 * 2, // code points; an emoji may have two units of UTF-16
    autocomplete: 'off',
    dir: 'auto'
  })
  const form = make('form', { className: 'line' }, field(say('tokenName'), name), button('createToken'))
  form.addEventListener('submit', (event) => {
    event.preventDefault()
    attempt(
      NOTICE,
      async () => {
        const { token } = await session.call('POST', 'tokens', { body: { name: name.value } })
        form.reset()
        showOnce(token)
        await showTokens()
      },
      form
    )
  })
  const details = make(
    'details',
    { id: 'bots' },
    make('summary', { textContent: say('tokens') }),
    make('p', { className: 'hint', textContent: say('tokensHint') }),
    list,
    fresh,
    form
  )
  details.addEventListener('toggle', () => {
    if (details.open) attempt(NOTICE, showTokens)
  })
  return details
}

/** @param {Session} session */
function deletionOf(session) {
  const form = make(
    'form',
    { id: 'leave' },
    make('p', { className: 'hint', textContent: say('deleteAccountHint') }),
    hiddenNickname(session),
    secretField('password', 'confirmation', 'current-password'),
    make('p', { className: 'row' }, button('deleteAccount', 'danger'))
  )
  form.addEventListener('submit', (event) => {
    event.preventDefault()
    const body = { password: new FormData(form).get('confirmation') }
    attempt(
      NOTICE,
      async () => {
        await session.call('DELETE', 'me', { body, timeoutMs: PASSWORD_TIMEOUT_MS }).catch(explain)
        session.forget()
      },
      form
    )
  })
  const summary = make('summary', { textContent: say('deleteAccount') })
  return make('details', { id: 'deleting' }, summary, withReveal(form))
}
