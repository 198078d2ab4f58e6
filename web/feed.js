import { ask, Failure, readPage } from './api.js'
import { WINDOW } from './room.js'

const SILENCE_MS = 35_000 // The service sends something every 15 s; a stream that is silent for longer has died without a word.
const FIRST_BYTES_MS = 5000 // They come at once, unless something in between holds them back.
const POLLING_MS = 60_000 // How long it is asked for news then, before a stream is tried again,
const WAIT_SECONDS = 10 // and how long each time.
const HIDDEN_MS = 10_000 // A browser opens six connections to a service, for all tabs together: a tab that nobody looks at gives up its own.

/** Follows the room for as long as the page lives: by a stream of events, or by asking again and again where none comes through. (By
 * `fetch`, because an EventSource tells nothing of an error, and hides the signs of life.) @param {import('./room.js').Room} room
 * @param {(state: 'connecting' | 'live' | Failure) => void} report told of each change
 */
export async function follow (room, report) {
  let pollUntil = 0
  let heardAt = Date.now()
  let hiddenAt = 0
  let interrupt = new AbortController()
  let endPause = () => {}
  const isUnseen = () => hiddenAt > 0 && Date.now() - hiddenAt >= HIDDEN_MS
  const pause = (/** @type {number} */ ms) => new Promise((resolve) => {
    endPause = () => resolve(undefined)
    setTimeout(resolve, ms)
  })
  /** Ends what it waits for, so that it goes on from where it is. @param {boolean} isCut also what is open */
  const goOn = (isCut) => {
    endPause()
    if (isCut) interrupt.abort()
  }
  const back = () => goOn(Date.now() - heardAt > 20_000) // after a sleep, nobody knows whether the other end is still there
  for (const sign of ['online', 'pageshow']) addEventListener(sign, back)
  addEventListener('offline', () => goOn(true))
  document.addEventListener('visibilitychange', () => {
    hiddenAt = document.hidden ? Date.now() : 0
    if (document.hidden) setTimeout(() => { if (isUnseen()) goOn(true) }, HIDDEN_MS)
    else back()
  })
  /** Until the stream ends, one way or the other. @returns {Promise<boolean>} whether it could be opened at all @throws {Failure} */
  async function stream () {
    const { signal } = interrupt = new AbortController()
    const giveUp = () => interrupt.abort(new DOMException('nothing came', 'TimeoutError'))
    let timer = setTimeout(giveUp, FIRST_BYTES_MS)
    let text = ''
    let retryMs = 1000
    let isOpen = false
    try {
      const { body } = await ask('GET', `events?since=${room.cursor}`, { signal, patienceMs: 0 })
      const reader = /** @type {ReadableStream<Uint8Array>} */ (body).pipeThrough(/** @type {*} */ (new TextDecoderStream())).getReader()
      for (let part; !(part = await reader.read()).done;) {
        clearTimeout(timer)
        timer = setTimeout(giveUp, SILENCE_MS)
        heardAt = Date.now()
        text += part.value
        retryMs = Number(/^retry: (\d+)$/m.exec(text)?.[1] ?? retryMs)
        // A comment or an event: not only the hint to come back later.
        const isServed = /^(:|data:)/m.test(text)
        if (!isOpen && isServed) report('live')
        isOpen ||= isServed
        const frames = text.split('\n\n')
        text = frames.pop() ?? ''
        const events = frames.flatMap((frame) => /^data: (.+)$/m.exec(frame)?.slice(1).map((data) => ({ ...JSON.parse(data), seq: Number(/^id: (\d+)$/m.exec(frame)?.[1]) })) ?? [])
        const isReset = events.some(({ type }) => type === 'reset')
        if (isReset) room.cursor = undefined
        if (isReset) return true
        if (events.length > 0) room.apply(events)
      }
    } catch (error) {
      if (error instanceof Failure && error.status === 0) return false
      const isRefused = error instanceof Failure && !error.isTemporary // by somebody in between
      if (error instanceof Failure && !isRefused) throw error
      if (isRefused || (!isOpen && signal.reason?.name === 'TimeoutError')) pollUntil = Date.now() + POLLING_MS
      retryMs = signal.aborted ? 0 : 200 + Math.random() * 800 // it was cut
    } finally {
      clearTimeout(timer)
      interrupt.abort()
    }
    // It ended: the service stops, or has no room for another stream but still answers.
    if (!isOpen) pollUntil ||= Date.now() + retryMs
    if (isOpen) report('connecting')
    if (isOpen) await pause(retryMs)
    return true
  }
  /** Asks once for what is new, and looks whether anything else happened. @param {number} seconds to wait for it @throws {Failure} */
  async function poll (seconds) {
    const { newest, cursor = 0 } = room
    const { signal } = interrupt = new AbortController()
    const page = await readPage(`after_id=${newest}&limit=${WINDOW}&wait=${seconds}`, { signal, patienceMs: (seconds + 10) * 1000 })
      .catch((error) => { if (!signal.aborted) throw error })
    if (!page) return
    heardAt = Date.now()
    report('live')
    room.apply(page.messages.map((message) => ({ type: 'message_created', message })))
    if (page.messages.length === WINDOW) return // and there is more
    // The log grew by more than what is new: an older message was changed or deleted, which such a page does not tell.
    if (page.cursor > cursor + page.messages.length) await room.refresh()
    room.cursor = page.cursor
  }
  for (let failures = 0, doubts = 0; ;) {
    try {
      while (room.cursor === undefined) await room.loadNewest()
      if (isUnseen()) await pause(HIDDEN_MS).then(() => poll(0))
      else if (Date.now() < pollUntil) await poll(WAIT_SECONDS)
      else {
        pollUntil = 0
        if (await stream()) doubts = 0
        else {
          await poll(0) // which fails as well, unless it is for the stream alone that there is no way
          if (++doubts > 1) pollUntil = Date.now() + POLLING_MS
        }
      }
      failures = 0
    } catch (failure) {
      if (!(failure instanceof Failure)) throw failure
      doubts = 0
      report(failure)
      await pause(failure.retryMs || Math.min(500 * 2 ** failures++, 10_000) * (0.75 + Math.random() / 2))
    }
  }
}
