import { shared } from './storage.js'

/** The page's own texts, in English and Russian. Texts from the service are shown as they are. */
const texts = {
  title: ['Chat', 'Чат'],
  skip: ['Skip to the message box', 'Перейти к полю ввода'],
  language: ['Language', 'Язык'],
  messages: ['Messages', 'Сообщения'],
  account: ['Account', 'Аккаунт'],
  logOut: ['Log out', 'Выйти'],
  logIn: ['Log in', 'Войти'],
  register: ['Create account', 'Создать аккаунт'],
  join: ['Anyone can read. Log in to post.', 'Читать может каждый. Чтобы писать, войдите.'],
  nickname: ['Nickname', 'Имя'],
  password: ['Password', 'Пароль'],
  writeHere: ['Write a message', 'Напишите сообщение'],
  send: ['Send', 'Отправить'],
  save: ['Save', 'Сохранить'],
  cancel: ['Cancel', 'Отмена'],
  close: ['Close', 'Закрыть'],
  edit: ['Edit', 'Изменить'],
  delete: ['Delete', 'Удалить'],
  editing: ['Editing message', 'Редактирование сообщения'],
  deleteAsk: ['Delete this message for everybody?', 'Удалить это сообщение у всех?'],
  showMore: ['Show more', 'Показать полностью'],
  showLess: ['Show less', 'Свернуть'],
  retry: ['Try again', 'Повторить'],
  discard: ['Discard', 'Не отправлять'],
  sending: ['Sending…', 'Отправляется…'],
  notSent: ['Not sent: ', 'Не отправлено: '],
  notSaved: [
    'This browser cannot save your unsent messages. They will be lost if you reload or close this page.',
    'Браузер не может сохранить неотправленные сообщения. Если закрыть или обновить страницу, они пропадут.'
  ],
  begin: ['This is the beginning of the conversation.', 'Это начало переписки.'],
  empty: ['No messages yet.', 'Сообщений пока нет.'],
  loading: ['Loading older messages…', 'Загружаем более ранние сообщения…'],
  newest: ['Jump to latest', 'К последним'],
  today: ['Today', 'Сегодня'],
  yesterday: ['Yesterday', 'Вчера'],
  connecting: ['Connecting…', 'Подключаемся…'],
  again: ['Trying again…', 'Пробуем снова…'],
  unreachable: ['The server cannot be reached', 'Сервер недоступен'],
  offline: [
    'You are offline. Your messages will be sent when you are back online',
    'Нет подключения к сети. Сообщения будут отправлены, когда оно появится'
  ],
  unexpected: ['Unexpected response from the server', 'Неожиданный ответ сервера'],
  reconnected: [
    'Reconnected. You have not missed anything.',
    'Связь восстановлена. Вы ничего не пропустили.'
  ],
  loginAgain: [
    'Please log in again. Your unsent messages are kept.',
    'Войдите ещё раз. Неотправленные сообщения сохранены.'
  ],
  sessions: ['Active sessions', 'Активные сеансы'],
  thisOne: ['this device', 'это устройство'],
  since: ['Logged in', 'Вход:'],
  lastSeen: ['last active', 'последняя активность:'],
  end: ['End', 'Завершить'],
  endOthers: ['End all other sessions', 'Завершить остальные сеансы'],
  changePassword: ['Change password', 'Сменить пароль'],
  currentPassword: ['Current password', 'Текущий пароль'],
  newPassword: ['New password', 'Новый пароль'],
  passwordChanged: [
    'Password changed. You have been logged out everywhere else.',
    'Пароль изменён. На других устройствах выполнен выход.'
  ],
  // The plural categories (Intl.PluralRules) of a number of new messages.
  one: ['new message', 'новое сообщение'],
  few: ['new messages', 'новых сообщения'],
  many: ['new messages', 'новых сообщений'],
  other: ['new messages', 'новых сообщений']
}
/** @typedef {keyof typeof texts} Key */

const preferred = [shared.load('language'), ...navigator.languages].map((tag) => tag?.slice(0, 2))
/** The chosen language, otherwise the first of the browser's languages that the page has. */
export let language = preferred.find((tag) => tag === 'en' || tag === 'ru') ?? 'en'

/** @param {Key} key */
export const say = (key) => texts[key][language === 'ru' ? 1 : 0] ?? key

/** @param {number} count of new messages */
export function sayNew(count) {
  const category = /** @type {Key} */ (new Intl.PluralRules(language).select(count))
  return `${count} ${say(category)}`
}

function makeFormatters() {
  // Use the reader's own locale, because times are written differently within one language.
  const locale = navigator.languages.find((tag) => tag.startsWith(language)) ?? language
  return {
    time: new Intl.DateTimeFormat(locale, { timeStyle: 'short' }),
    day: new Intl.DateTimeFormat(locale, { dateStyle: 'full' }),
    moment: new Intl.DateTimeFormat(locale, { dateStyle: 'medium', timeStyle: 'short' })
  }
}
let formatters = makeFormatters()

/** @param {Date} date @param {keyof typeof formatters} [as] @returns {string} empty for an invalid date */
export function sayDate(date, as = 'time') {
  return Number.isNaN(date.getTime()) ? '' : formatters[as].format(date)
}

/** @param {Date} date */
export function sayDay(date) {
  const isDay = (/** @type {number} */ ago) => {
    return date.toDateString() === new Date(Date.now() - ago * 86_400_000).toDateString()
  }
  if (isDay(0)) return say('today')
  return isDay(1) ? say('yesterday') : sayDate(date, 'day')
}

/** Renders the page in this language, or switches to another. @param {'en' | 'ru'} [chosen] */
export function speak(chosen) {
  if (chosen) {
    language = chosen
    shared.save('language', chosen)
  }
  formatters = makeFormatters()
  document.documentElement.lang = language
  const templates = Array.from(document.querySelectorAll('template'), ({ content }) => content)
  for (const root of [document, ...templates]) {
    /** @type {NodeListOf<HTMLElement>} */
    const elements = root.querySelectorAll('[data-say], [data-label]')
    for (const element of elements) {
      const { say: text, label } = element.dataset
      if (text) element.textContent = say(/** @type {Key} */ (text))
      const attribute = element instanceof HTMLTextAreaElement ? 'placeholder' : 'aria-label'
      if (label) element.setAttribute(attribute, say(/** @type {Key} */ (label)))
    }
  }
}
