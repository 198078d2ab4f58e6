import { load, save } from './storage.js'

/** What the page says of its own, in English and in Russian. What the service says is shown as it came. */
const texts = {
  title: ['Chat', 'Чат'], skip: ['Skip to writing', 'Перейти к вводу'], language: ['Language', 'Язык'], messages: ['Messages', 'Сообщения'],
  account: ['Account', 'Аккаунт'], logOut: ['Log out', 'Выйти'], logIn: ['Log in', 'Войти'], register: ['Create account', 'Создать аккаунт'],
  join: ['Anyone can read. Log in to write.', 'Читать может каждый. Войдите, чтобы писать.'], nickname: ['Nickname', 'Имя'], password: ['Password', 'Пароль'],
  writeHere: ['Write a message', 'Напишите сообщение'], send: ['Send', 'Отправить'], save: ['Save', 'Сохранить'], cancel: ['Cancel', 'Отмена'],
  close: ['Close', 'Закрыть'], edit: ['Edit', 'Изменить'], delete: ['Delete', 'Удалить'], editing: ['Editing a message', 'Изменение сообщения'],
  deleteAsk: ['Delete this message for everybody?', 'Удалить это сообщение у всех?'], retry: ['Try again', 'Повторить'], discard: ['Discard', 'Не отправлять'],
  sending: ['Sending…', 'Отправляется…'], notSent: ['Not sent: ', 'Не отправлено: '],
  begin: ['This is where the conversation begins.', 'Здесь начинается разговор.'], empty: ['Nobody has said anything yet.', 'Пока никто ничего не написал.'],
  loading: ['Loading older messages…', 'Загружаем прежние сообщения…'], newest: ['To the newest', 'К новым'], today: ['Today', 'Сегодня'], yesterday: ['Yesterday', 'Вчера'],
  connecting: ['Connecting…', 'Подключаемся…'], again: ['Trying again…', 'Пробуем снова…'], unreachable: ['The service cannot be reached', 'Сервис недоступен'],
  offline: ['You are offline; what you write is sent when you are back', 'Нет сети; написанное будет отправлено, когда она появится'],
  strange: ['What answered was not the service', 'Ответил не сам сервис'], reconnected: ['Connected again, and nothing was missed', 'Снова на связи, ничего не пропущено'],
  loginAgain: ['Log in again; what you wrote is kept.', 'Войдите снова; написанное сохранено.'], sessions: ['Where you are logged in', 'Где выполнен вход'],
  thisOne: ['here', 'здесь'], since: ['Since', 'С'], lastSeen: ['last seen', 'последний раз'], end: ['End', 'Завершить'], endOthers: ['End all others', 'Завершить остальные'],
  changePassword: ['Change password', 'Сменить пароль'], currentPassword: ['Current password', 'Текущий пароль'], newPassword: ['New password', 'Новый пароль'],
  passwordChanged: ['Password changed; you are logged out everywhere else.', 'Пароль изменён; на других устройствах выполнен выход.'],
  one: ['new message', 'новое сообщение'], few: ['new messages', 'новых сообщения'], many: ['new messages', 'новых сообщений'], other: ['new messages', 'новых сообщений']
}
/** @typedef {keyof typeof texts} Key */

// The one that was chosen, else the first of the browser's that there is.
export let language = [load('language'), ...navigator.languages].map((tag) => tag?.slice(0, 2)).find((tag) => tag === 'en' || tag === 'ru') ?? 'en'

/** @param {Key} key */
export const say = (key) => texts[key][language === 'ru' ? 1 : 0] ?? key
/** @param {number} count */
export const sayNew = (count) => `${count} ${say(/** @type {Key} */ (new Intl.PluralRules(language).select(count)))}`

// In the reader's own variety of the language, because an hour is written in many ways.
const locale = () => navigator.languages.find((tag) => tag.startsWith(language)) ?? language
/** @param {Intl.DateTimeFormatOptions} options */
const formats = (options) => new Intl.DateTimeFormat(locale(), options)
const make = () => ({ time: formats({ timeStyle: 'short' }), day: formats({ dateStyle: 'full' }), moment: formats({ dateStyle: 'medium', timeStyle: 'short' }) })
let formatters = make()
/** @param {Date} date @param {keyof typeof formatters} [as] */
export const sayDate = (date, as = 'time') => formatters[as].format(date)
/** @param {Date} date */
export function sayDay (date) {
  const isDay = (/** @type {number} */ ago) => date.toDateString() === new Date(Date.now() - ago * 86_400_000).toDateString()
  return isDay(0) ? say('today') : isDay(1) ? say('yesterday') : sayDate(date, 'day')
}

/** Writes the page in the language. @param {'en' | 'ru'} [chosen] */
export function speak (chosen) {
  if (chosen) save('language', language = chosen)
  formatters = make()
  document.documentElement.lang = language
  const parts = [document, ...Array.from(document.querySelectorAll('template'), ({ content }) => content)]
  for (const element of /** @type {HTMLElement[]} */ (parts.flatMap((part) => Array.from(part.querySelectorAll('[data-say], [data-label]'))))) {
    const { say: text, label } = element.dataset
    if (text) element.textContent = say(/** @type {Key} */ (text))
    if (label) element.setAttribute(element instanceof HTMLTextAreaElement ? 'placeholder' : 'aria-label', say(/** @type {Key} */ (label)))
  }
}
