import { namesFor, typedName } from './names.js'
import { isComposing, part } from './page.js'

/** @typedef {import('./room.js').Room} Room */

/**
 * Completes `@name` in the field for a message, by the people who were seen in the room.
 * @param {Room} room
 * @param {() => string | undefined} me nobody mentions themselves
 */
export function completeNames(room, me) {
  const input = part('text', HTMLTextAreaElement)
  const list = part('names', HTMLElement)
  /** Everybody who was seen, who wrote last is last. @type {Set<string>} */
  const seen = new Set()
  let chosen = 0

  const isOpen = () => !list.hidden

  function close() {
    list.hidden = true
    input.removeAttribute('aria-activedescendant')
  }

  function suggest() {
    const { selectionStart: at, selectionEnd: end, value } = input
    const typed = at === end ? typedName(value.slice(0, at)) : undefined
    if (typed === undefined) return close()
    for (const { nickname } of room.messages) {
      seen.delete(nickname)
      seen.add(nickname)
    }
    const names = namesFor(
      typed,
      [...seen].reverse().filter((name) => name !== me())
    )
    // A name that is complete needs no suggestion.
    if (names.length === 0 || names.includes(typed.trimEnd())) return close()
    list.replaceChildren(...names.map(makeOption))
    list.hidden = false
    choose(0)
  }

  /** @param {number} index */
  function choose(index) {
    const options = [...list.children]
    chosen = (index + options.length) % options.length
    options.forEach((option, i) => option.setAttribute('aria-selected', `${i === chosen}`))
    input.setAttribute('aria-activedescendant', `name-${chosen}`)
  }

  /** @param {string} name @param {number} index */
  function makeOption(name, index) {
    const option = document.createElement('div')
    option.role = 'option'
    option.id = `name-${index}`
    option.dir = 'auto'
    option.textContent = name
    // The field keeps the focus.
    option.addEventListener('pointerdown', (event) => event.preventDefault())
    option.addEventListener('click', () => complete(name))
    return option
  }

  /** @param {string} name */
  function complete(name) {
    const end = input.selectionStart
    const typed = typedName(input.value.slice(0, end)) ?? ''
    input.setRangeText(`${name} `, end - typed.length, end, 'end')
    close()
    input.dispatchEvent(new Event('input'))
  }

  input.addEventListener('input', suggest)
  input.addEventListener('blur', close)
  input.addEventListener(
    'keydown',
    (event) => {
      if (!isOpen() || isComposing(event)) return
      const name = list.children[chosen]?.textContent ?? ''
      if (event.key === 'ArrowDown') choose(chosen + 1)
      else if (event.key === 'ArrowUp') choose(chosen - 1)
      else if (event.key === 'Enter' || event.key === 'Tab') complete(name)
      else if (event.key === 'Escape') close()
      else return
      event.preventDefault()
      event.stopImmediatePropagation() // The composer does something else with these keys.
    },
    { capture: true }
  )
}
