import { call, Failure } from './api.js'
import { say } from './i18n.js'
import { part, tell } from './page.js'

/** How often the number of people is read anew, while somebody looks at the page. */
const EVERY_MS = 60_000

/**
 * The topic of the room, and how many people are online. A topic that is too long for its line is cut until
 * it is opened.
 * @param {import('./room.js').Room} room
 */
export function showTopic(room) {
  const topicButton = part('topic', HTMLButtonElement)
  /** @type {import('./room.js').Settings | undefined} */
  let shown

  /** @param {boolean} [isAnew] in another language */
  function draw(isAnew = false) {
    const { settings } = room
    if (!settings || (settings === shown && !isAnew)) return
    shown = settings
    const { topic, online } = settings
    tell(topicButton, topic)
    topicButton.title = topic
    tell(part('online', HTMLElement), online > 0 ? say('online', { count: online }) : '')
  }

  /** Reads the settings of the room. */
  async function refresh() {
    try {
      const settings = await call('GET', 'room')
      room.apply([{ type: 'room_updated', room: settings }])
    } catch (failure) {
      if (!(failure instanceof Failure)) throw failure // The connection's state says what is wrong.
    }
  }

  topicButton.addEventListener('click', () => {
    topicButton.ariaExpanded = topicButton.ariaExpanded === 'true' ? 'false' : 'true'
  })
  setInterval(() => {
    if (!document.hidden) refresh()
  }, EVERY_MS)
  return { draw, refresh }
}
