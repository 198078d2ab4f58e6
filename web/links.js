/** The address of a message. @param {number} id */
export const linkTo = (id) => new URL(`#m${id}`, location.href).href

/** Goes to a message, also when the address leads there already. @param {number} id */
export function goTo(id) {
  const hash = `#m${id}`
  if (location.hash === hash) dispatchEvent(new HashChangeEvent('hashchange'))
  else location.hash = hash
}

/**
 * Follows links to messages: in the address of the page, and in quotes.
 * @param {(id: number) => void} show
 */
export function followLinks(show) {
  const follow = (/** @type {string} */ hash) => {
    const [, id] = /^#m(\d{1,15})$/.exec(hash) ?? []
    if (id) show(Number(id))
    return Boolean(id)
  }
  addEventListener('hashchange', () => follow(location.hash))
  // A link to the message that is in the address already would do nothing.
  document.addEventListener('click', (event) => {
    const link = event.target instanceof Element && event.target.closest('a')
    const isPlain = event.button === 0 && !event.ctrlKey && !event.metaKey && !event.shiftKey
    if (!link || !isPlain || link.pathname !== location.pathname) return
    if (link.host === location.host && follow(link.hash)) event.preventDefault()
  })
  follow(location.hash)
}
