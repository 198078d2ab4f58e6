import { say } from './i18n.js'
import { goTo } from './links.js'
import { isMentioned } from './markdown.js'
import { shared } from './storage.js'
import { beginningOf } from './text.js'

/** @typedef {import('../schemas/messages.ts').Message} Message */
/** @typedef {'none' | 'mentions' | 'all'} Wish */

const NAME = 'notify'
const SOUND = 'sound'
/** How much of a message a notification shows. */
const [CHARACTERS, LINES] = [200, 4]
/** The two tones of the sound: their pitches, and how long each is. */
const TONES_HZ = [660, 880]
const TONE_SECONDS = 0.12
const LOUDNESS = 0.08
/** Messages that come together make one sound. */
const SOUND_PAUSE_MS = 1500

/** @returns {Wish} which messages the reader wants to be notified of */
export function wish() {
  const stored = shared.load(NAME)
  return stored === 'mentions' || stored === 'all' ? stored : 'none'
}
export const wantsSound = () => shared.load(SOUND) === 'on'

/**
 * Sets which messages the reader wants to be notified of, and asks the browser for the permission.
 * @param {Wish} chosen
 * @returns {Promise<boolean>} false: the browser shows no notifications
 */
export async function setWish(chosen) {
  shared.save(NAME, chosen)
  if (chosen === 'none') return true
  if (!('Notification' in globalThis)) return false
  return (await Notification.requestPermission()) === 'granted'
}

/** @param {boolean} isOn */
export function setSound(isOn) {
  shared.save(SOUND, isOn ? 'on' : 'off')
  if (isOn) play()
}

/** Shows on the tab and on the icon how many messages are unread. @param {number} count */
export function showUnread(count) {
  document.title = (count ? `(${count}) ` : '') + say('title')
  const icon = document.querySelector('link[rel=icon]')
  const href = count ? 'web/icons/unread.svg' : 'web/icon.svg'
  if (icon instanceof HTMLLinkElement && icon.getAttribute('href') !== href) icon.href = href
}

/**
 * Tells of messages that come while nobody looks at the page, as the reader wishes. One of several tabs does.
 * @param {import('./session.js').Session} session
 * @returns {(arrived: Message[]) => void} to be called with what is new, the same again does no harm
 */
export function alertReader(session) {
  let told = 0
  // Where there are no locks (without HTTPS) there are no notifications either.
  let isTeller = !navigator.locks
  navigator.locks?.request('chat.alerts', () => {
    isTeller = true
    return new Promise(() => {}) // until the page is closed
  })

  return (arrived) => {
    const news = arrived.filter(({ id }) => id > told)
    told = Math.max(told, news.at(-1)?.id ?? 0)
    const { account } = session
    const chosen = wish()
    if (!account || chosen === 'none' || !isTeller || document.hasFocus()) return
    const wanted = news.filter((message) => {
      if (message.userId === account.userId) return false
      return chosen === 'all' || isForReader(message, account)
    })
    for (const message of wanted.slice(-3)) notify(message)
    if (wanted.length > 0 && wantsSound()) play()
  }
}

/**
 * Whether a message names the reader, or replies to one of theirs.
 * @param {Message} message @param {import('./session.js').Account} account
 */
const isForReader = ({ text, replyTo }, { userId, nickname }) =>
  replyTo?.userId === userId || isMentioned(text, nickname)

/** @param {Message} message */
function notify({ id, nickname, text }) {
  if (!('Notification' in globalThis) || Notification.permission !== 'granted') return
  try {
    const notification = new Notification(nickname, {
      body: beginningOf(text, CHARACTERS, LINES),
      icon: 'web/icon.svg',
      tag: `message-${id}`
    })
    notification.onclick = () => {
      window.focus()
      goTo(id)
      notification.close()
    }
  } catch {
    // Chrome on Android shows only those of a service worker.
  }
}

/** @type {AudioContext | undefined} */
let audio
let playedAt = 0

/** Plays a short sound, if the browser lets a page do so that nobody has touched yet. */
function play() {
  if (Date.now() - playedAt < SOUND_PAUSE_MS) return
  playedAt = Date.now()
  audio ??= new AudioContext()
  audio.resume().catch(() => {})
  TONES_HZ.forEach((pitch, i) => tone(/** @type {AudioContext} */ (audio), pitch, i * TONE_SECONDS))
}

/** @param {AudioContext} audio @param {number} pitch in Hz @param {number} delay in seconds */
function tone(audio, pitch, delay) {
  const start = audio.currentTime + delay
  const volume = new GainNode(audio, { gain: 0 })
  volume.gain.setValueAtTime(LOUDNESS, start)
  volume.gain.exponentialRampToValueAtTime(0.001, start + TONE_SECONDS)
  const oscillator = new OscillatorNode(audio, { frequency: pitch })
  oscillator.connect(volume).connect(audio.destination)
  oscillator.start(start)
  oscillator.stop(start + TONE_SECONDS)
}
