/** The reader counts as being at the newest message when it is so few pixels away. */
const AT_END_PX = 40
/** Browsers round: a view that has moved by less has not moved. */
const ROUNDING_PX = 0.2
/** A smaller move cannot be seen. */
const VISIBLE_PX = 0.5

/**
 * Where the reader looks. At the newest end the view follows what is new. Anywhere else, what the reader
 * looks at stays in its place, whatever comes, goes or grows around it.
 *
 * Browsers have scroll anchoring for the latter, but not all of them, and none at the upper end. So the
 * style sheet turns it off, and it is done here.
 */
export class View {
  #scroller
  #list
  #room
  /**
   * What may stay in its place, best first, and its distance from the upper edge.
   * @type {{ element: Element, top: number }[]}
   */
  #anchors = []
  // How things were when the view was last looked at: `scrollTop`, its largest value, and the width.
  #top = 0
  #end = 0
  #width = 0
  /** The `#end` to which the view followed; undefined: it does not follow. @type {number | undefined} */
  #followedTo

  /**
   * @param {HTMLElement} scroller @param {HTMLElement} list of the messages in it
   * @param {import('./room.js').Room} room
   * @param {{ moved: () => void, resized: () => void }} on `moved` is called when the view was scrolled,
   *   and `resized` when it has another size, before the view is settled
   */
  constructor(scroller, list, room, { moved, resized }) {
    this.#scroller = scroller
    this.#list = list
    this.#room = room
    scroller.addEventListener(
      'scroll',
      () => {
        this.#noticeMove()
        this.#rememberAnchors()
        moved()
      },
      { passive: true }
    )
    const observer = new ResizeObserver(() => {
      resized()
      this.settle()
    })
    observer.observe(scroller)
  }

  /** Pixels of the list above the view. */
  get above() {
    return this.#scroller.scrollTop
  }

  /** Pixels of the list below the view. */
  get below() {
    const { scrollHeight, scrollTop, clientHeight } = this.#scroller
    return scrollHeight - scrollTop - clientHeight
  }

  /** To be called after anything in the list has changed. */
  settle() {
    const scrolled = this.#noticeMove()
    if (this.#room.isFollowing) this.#follow()
    else this.#stay(scrolled)
    this.#rememberAnchors()
  }

  /** Goes to the newest message, and follows from there. */
  toEnd() {
    this.#room.isFollowing = true
    this.#followedTo = undefined
    this.settle()
  }

  /**
   * Makes a change while an element stays in its place.
   * @param {Element} element
   * @param {() => void} change
   */
  keepInPlace(element, change) {
    const before = element.getBoundingClientRect().top
    change()
    this.#moveBy(element.getBoundingClientRect().top - before)
    this.#startHere()
  }

  /**
   * Goes to an element of the list, in the middle of the view if it is not too high.
   * @param {Element} element
   */
  show(element) {
    const view = this.#scroller.getBoundingClientRect()
    const { top, height } = element.getBoundingClientRect()
    this.#moveBy(top - view.top - Math.max(0, (view.height - height) / 2))
    this.#startHere()
  }

  /** Stays from now on where the view is now. */
  #startHere() {
    this.#look()
    this.#room.isFollowing = false
    this.#followedTo = undefined
    if (this.below < 1) this.#beginToFollow()
    this.#rememberAnchors()
  }

  #follow() {
    // Only after the height has changed: setting it again would stop a scrolling that has just begun.
    if (this.#followedTo === this.#end) return
    this.#moveBy(this.below)
    this.#look()
    this.#followedTo = this.#end
  }

  /**
   * @param {number} scrolled by how many pixels the reader has scrolled down since the anchors were
   *   remembered
   */
  #stay(scrolled) {
    this.#followedTo = undefined
    const anchor = this.#anchors.find(({ element }) => element.isConnected)
    if (anchor) {
      const edge = this.#scroller.getBoundingClientRect().top
      const moved = anchor.element.getBoundingClientRect().top - edge - (anchor.top - scrolled)
      this.#moveBy(moved)
    }
    this.#look()
    if (this.below < 1) this.#beginToFollow()
  }

  /**
   * Browsers end a smooth scroll when somebody sets `scrollTop`, even to what it is.
   * @param {number} pixels
   */
  #moveBy(pixels) {
    if (Math.abs(pixels) >= VISIBLE_PX) this.#scroller.scrollTop += pixels
  }

  #look() {
    const { scrollTop, scrollHeight, clientHeight, clientWidth } = this.#scroller
    this.#top = scrollTop
    this.#end = scrollHeight - clientHeight
    this.#width = clientWidth
  }

  /**
   * Finds out whether the reader has scrolled: up, even by a pixel, ends the following, and down to the end
   * begins it.
   * @returns {number} by how many pixels down
   */
  #noticeMove() {
    const { scrollTop, clientWidth } = this.#scroller
    const [lastTop, lastEnd, lastWidth] = [this.#top, this.#end, this.#width]
    this.#look()
    // The browser itself moves a view that would be beyond the end, after the list got shorter or the view
    // higher. It may also do so when the text is laid out anew.
    const isAtEnd = this.below < 1
    const isClamped = this.#end < lastEnd && isAtEnd
    const moved = isClamped || clientWidth !== lastWidth ? 0 : scrollTop - lastTop
    // A view that is pulled beyond the end comes back by itself, and that is no scrolling up.
    if (isAtEnd) this.#top = Math.min(scrollTop, Math.max(lastTop, this.#end - 1))

    const room = this.#room
    if (room.isFollowing) {
      if (moved >= -ROUNDING_PX) return moved
      room.isFollowing = false
      this.#followedTo = undefined
    } else if (moved > 0 && this.below < AT_END_PX) this.#beginToFollow()
    return moved
  }

  /** There is nothing to scroll to before something is new. */
  #beginToFollow() {
    if (this.#room.more.newer) return
    this.#room.isFollowing = true
    this.#followedTo = this.#end
  }

  /** Messages that can be seen as a whole come first: another one may change where it cannot be seen. */
  #rememberAnchors() {
    const view = this.#scroller.getBoundingClientRect()
    const whole = []
    const cut = []
    for (const element of this.#list.children) {
      const { top, bottom } = element.getBoundingClientRect()
      if (top >= view.bottom) break
      if (bottom <= view.top) continue
      const anchor = { element, top: top - view.top }
      if (top >= view.top) whole.push(anchor)
      else cut.push(anchor)
    }
    this.#anchors = [...whole, ...cut]
  }
}
