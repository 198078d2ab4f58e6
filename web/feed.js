import { ask, call, Failure, readPage, textOf } from './api.js'
import { EventParser } from './events.js'
import { WINDOW } from './room.js'

/** The service sends something every 15 s. A stream that is silent for longer is dead. */
const SILENCE_MS = 35_000
/** The first bytes arrive immediately, unless something in between holds them back. */
const FIRST_BYTES_MS = 5000
/** A stream that ends sooner, without an event, was no use. */
const SHORT_MS = 2000
/** For how long the page polls then, before it tries a stream again, */
const POLLING_MS = 60_000
/** how many seconds each poll waits for news, */
const WAIT_SECONDS = 10
/** and how long the page pauses between polls that may not wait, and before it reads the room anew again. */
const PAUSE_MS = 3000
/** Polls without a pause while there is more and more that is new. */
const MAX_ROUNDS = 10
/**
 * A browser opens six connections to a service, for all tabs together: a tab that nobody looks at gives up
 * its own.
 */
const HIDDEN_MS = 10_000

/**
 * Whether the service answered, and refuses this request for now.
 * @param {unknown} failure @returns {failure is Failure}
 */
const isRefusal = (failure) => failure instanceof Failure && failure.isTemporary && failure.status > 0

/**
 * Follows the room for as long as the page lives: by a stream of events, or by polling where no stream
 * comes through. (With `fetch`, because an EventSource reports neither errors nor comments.)
 * @param {import('./room.js').Room} room
 * @param {(state: 'connecting' | 'live' | Failure) => void} report is called on each change
 */
export async function follow(room, report) {
  let pollUntil = 0
  /** Until then a poll does not wait for news, because the service refused to let one wait. */
  let dontWaitUntil = 0
  let heardAt = Date.now()
  let resetAt = -Infinity
  let hiddenAt = 0
  let interrupt = new AbortController()
  let endPause = () => {}
  const isUnseen = () => hiddenAt > 0 && Date.now() - hiddenAt >= HIDDEN_MS

  const pause = (/** @type {number} */ ms) =>
    new Promise((resolve) => {
      endPause = () => resolve(undefined)
      setTimeout(resolve, ms)
    })

  /** Ends the pause, so that work continues immediately. @param {boolean} isCut ends open requests as well */
  function goOn(isCut) {
    endPause()
    if (isCut) interrupt.abort()
  }

  /** After a sleep, nobody knows whether the other end is still there. */
  const comeBack = () => goOn(Date.now() - heardAt > 20_000)
  addEventListener('online', comeBack)
  addEventListener('pageshow', comeBack)
  addEventListener('offline', () => goOn(true))
  function noteVisibility() {
    hiddenAt = document.hidden ? Date.now() : 0
    if (!document.hidden) return comeBack()
    setTimeout(() => {
      if (isUnseen()) goOn(true)
    }, HIDDEN_MS)
  }
  document.addEventListener('visibilitychange', noteVisibility)
  noteVisibility() // A tab can be opened behind another one.

  /**
   * Reads the events until the stream ends, one way or the other.
   * @returns {Promise<boolean>} whether it was of any use, or the reason is known why not
   */
  async function stream() {
    const { signal } = (interrupt = new AbortController())
    const giveUp = () => interrupt.abort(new DOMException('nothing came', 'TimeoutError'))
    let timer = setTimeout(giveUp, FIRST_BYTES_MS)
    const events = new EventParser()
    const openedAt = Date.now()
    let isUseful = false
    let isLive = false
    let isInterrupted = false
    let pauseMs
    try {
      for await (const part of textOf(await ask('GET', `events?since=${room.cursor}`, { signal }))) {
        clearTimeout(timer)
        timer = setTimeout(giveUp, SILENCE_MS)
        heardAt = Date.now()
        const changes = []
        for (const event of events.push(part)) {
          if (event.type === 'reset') {
            // Something is wrong with a log that is lost again and again.
            const isAgain = Date.now() - resetAt < PAUSE_MS
            if (isAgain) await pause(PAUSE_MS)
            resetAt = Date.now()
            room.cursor = undefined
            return true
          }
          changes.push(event)
        }
        if (events.isOpen && !isLive) report('live')
        isLive = events.isOpen
        isUseful ||= changes.length > 0
        if (changes.length > 0) room.apply(changes)
      }
    } catch (error) {
      if (error instanceof Failure && error.status === 0) return false
      const isHeldBack = !isLive && signal.reason?.name === 'TimeoutError'
      if (isRefusal(error)) pollUntil = Date.now() + (error.retryMs || PAUSE_MS)
      else if (error instanceof Failure || isHeldBack) pollUntil = Date.now() + POLLING_MS
      isInterrupted = signal.aborted
      pauseMs = isInterrupted ? 0 : 200 + Math.random() * 800 // It was cut: others were as well.
    } finally {
      clearTimeout(timer)
      interrupt.abort()
    }
    pauseMs ??= Math.max(events.retryMs ?? 1000, 500)
    if (!isLive) {
      // The service has no room for another stream, but it answers.
      pollUntil ||= Date.now() + pauseMs
      return true
    }
    report('connecting')
    isUseful ||= isInterrupted || Date.now() - openedAt > SHORT_MS
    await pause(pauseMs)
    return isUseful
  }

  /** Reads what may have changed without an event: the messages that are shown, and the settings. */
  async function refresh() {
    await room.refresh()
    await refreshSettings()
  }

  async function refreshSettings() {
    room.apply([{ type: 'room_updated', room: await call('GET', 'room') }])
  }

  /**
   * Asks for what is new, and finds out whether anything else happened.
   * @param {number} seconds to wait for it
   * @returns {Promise<boolean>} whether there was something new @throws {Failure}
   */
  async function poll(seconds) {
    const { signal } = (interrupt = new AbortController())
    let count = 0
    for (let round = 0; round < MAX_ROUNDS; round++) {
      const wait = round === 0 ? seconds : 0
      const query = `after_id=${room.newest}&limit=${WINDOW}&wait=${wait}`
      const page = await readPage(query, { signal, timeoutMs: (wait + 10) * 1000 }).catch((error) => {
        if (!signal.aborted) throw error
      })
      if (!page) return count > 0
      heardAt = Date.now()
      report('live')
      room.apply(page.messages.map((message) => ({ type: 'message_created', message })))
      count += page.messages.length
      const isAll = page.cursor <= (room.cursor ?? 0) + count
      // The log grew by more than what is new. Either the page was cut short and there is more, or a message
      // or the room was changed, which such a page does not tell.
      if (!isAll && page.messages.length > 0) continue
      if (!isAll) await refresh()
      room.cursor = page.cursor
      return count > 0
    }
    // There is always more: so what changed is read now, and the cursor stays where it is.
    await refresh()
    return true
  }

  /** Polls in a way that the service allows. @throws {Failure} */
  async function pollPatiently() {
    if (Date.now() >= dontWaitUntil) {
      const askedAt = Date.now()
      try {
        const isNew = await poll(WAIT_SECONDS)
        if (isNew || interrupt.signal.aborted || Date.now() - askedAt > 1000) return
      } catch (failure) {
        if (!isRefusal(failure)) throw failure
        await pause(failure.retryMs || PAUSE_MS)
      }
      dontWaitUntil = Date.now() + POLLING_MS
    } else await pause(PAUSE_MS)
    await poll(0)
  }

  for (let failures = 0, doubts = 0; ;) {
    try {
      if (room.cursor === undefined) {
        while (room.cursor === undefined) await room.loadNewest()
        // Where the log was lost, changes of the room were as well. At first they are read beside the stream.
        if (room.settings) await refreshSettings()
      }
      if (isUnseen()) {
        await pause(HIDDEN_MS)
        await poll(0)
      } else if (Date.now() < pollUntil) {
        await pollPatiently()
      } else {
        pollUntil = 0
        if (await stream()) doubts = 0
        else {
          await poll(0) // This fails as well, unless it is streams alone that do not come through.
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
