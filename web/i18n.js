import { shared } from './storage.js'

/** What the page itself says, in English and in Russian. What the service says is shown as it came. */
const texts = {
  title: ['Chat', 'Чат'],
  skip: ['Skip to writing', 'Перейти к вводу'],
  language: ['Language', 'Язык'],
  messages: ['Messages', 'Сообщения'],
  account: ['Account', 'Аккаунт'],
  logOut: ['Log out', 'Выйти'],
  logIn: ['Log in', 'Войти'],
  register: ['Create account', 'Создать аккаунт'],
  join: ['Anyone can read. Log in to write.', 'Читать может каждый. Войдите, чтобы писать.'],
  nickname: ['Nickname', 'Имя'],
  password: ['Password', 'Пароль'],
  writeHere: ['Write a message', 'Напишите сообщение'],
  send: ['Send', 'Отправить'],
  save: ['Save', 'Сохранить'],
  cancel: ['Cancel', 'Отмена'],
  close: ['Close', 'Закрыть'],
  edit: ['Edit', 'Изменить'],
  delete: ['Delete', 'Удалить'],
  editing: ['Editing a message', 'Изменение сообщения'],
  deleteAsk: ['Delete this message for everybody?', 'Удалить это сообщение у всех?'],
  showMore: ['Show more', 'Показать больше'],
  showLess: ['Show less', 'Свернуть'],
  retry: ['Try again', 'Повторить'],
  discard: ['Discard', 'Не отправлять'],
  sending: ['Sending…', 'Отправляется…'],
  notSent: ['Not sent: ', 'Не отправлено: '],
  notSaved: [
    'This browser cannot save your unsent messages. They will be lost if you reload or close this page.',
    'Браузер не может сохранить неотправленные сообщения. Они пропадут, если закрыть или обновить страницу.'
  ],
  begin: ['This is where the conversation begins.', 'Здесь начинается разговор.'],
  empty: ['Nobody has said anything yet.', 'Пока никто ничего не написал.'],
  loading: ['Loading older messages…', 'Загружаем прежние сообщения…'],
  newest: ['To the newest', 'К новым'],
  today: ['Today', 'Сегодня'],
  yesterday: ['Yesterday', 'Вчера'],
  connecting: ['Connecting…', 'Подключаемся…'],
  again: ['Trying again…', 'Пробуем снова…'],
  unreachable: ['The service cannot be reached', 'Сервис недоступен'],
  offline: [
    'You are offline; what you write is sent when you are back',
    'Нет сети; написанное будет отправлено, когда она появится'
  ],
  unexpected: ['Unexpected response from the server', 'Неожиданный ответ сервера'],
  reconnected: ['Connected again, and nothing was missed', 'Снова на связи, ничего не пропущено'],
  loginAgain: ['Log in again; what you wrote is kept.', 'Войдите снова; написанное сохранено.'],
  sessions: ['Where you are logged in', 'Где выполнен вход'],
  thisOne: ['here', 'здесь'],
  since: ['Since', 'С'],
  lastSeen: ['last seen', 'последний раз'],
  end: ['End', 'Завершить'],
  endOthers: ['End all others', 'Завершить остальные'],
  changePassword: ['Change password', 'Сменить пароль'],
  currentPassword: ['Current password', 'Текущий пароль'],
  newPassword: ['New password', 'Новый пароль'],
  passwordChanged: [
    'Password changed; you are logged out everywhere else.',
    'Пароль изменён; на других устройствах выполнен выход.'
  ],
  // The plural categories (Intl.PluralRules) of a number of new messages.
  one: ['new message', 'новое сообщение'],
  few: ['new messages', 'новых сообщения'],
  many: ['new messages', 'новых сообщений'],
  other: ['new messages', 'новых сообщений']
}
/** @typedef {keyof typeof texts} Key */

const preferred = [shared.load('language'), ...navigator.languages].map((tag) => tag?.slice(0, 2))
/** The language that was chosen, else the first of the browser's that there is. */
export let language = preferred.find((tag) => tag === 'en' || tag === 'ru') ?? 'en'

/** @param {Key} key */
export const say = (key) => texts[key][language === 'ru' ? 1 : 0] ?? key

/** @param {number} count of new messages */
export function sayNew(count) {
  const category = /** @type {Key} */ (new Intl.PluralRules(language).select(count))
  return `${count} ${say(category)}`
}

function makeFormatters() {
  // In the reader's own variety of the language, because an hour is written in many ways.
  const locale = navigator.languages.find((tag) => tag.startsWith(language)) ?? language
  return {
    time: new Intl.DateTimeFormat(locale, { timeStyle: 'short' }),
    day: new Intl.DateTimeFormat(locale, { dateStyle: 'full' }),
    moment: new Intl.DateTimeFormat(locale, { dateStyle: 'medium', timeStyle: 'short' })
  }
}
let formatters = makeFormatters()

/** @param {Date} date @param {keyof typeof formatters} [as] @returns {string} empty for what is no date */
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

/** Writes the page in the language. @param {'en' | 'ru'} [chosen] */
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
