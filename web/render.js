import { shownAddress } from './markdown.js'

/** @typedef {import('./markdown.js').Part} Part */

/** @param {Part[]} parts @returns {Node[]} */
export const render = (parts) => parts.map(renderPart)

/** @param {Part} part @returns {Node} */
function renderPart(part) {
  switch (part.type) {
    case 'text':
      return document.createTextNode(part.text)
    case 'mention':
      return makeElement('mark', part.text)
    case 'code':
      return makeElement('code', part.text)
    case 'block': {
      const block = makeElement('pre')
      block.dir = 'ltr'
      block.append(makeElement('code', part.text))
      return block
    }
    case 'link':
      return makeLink(part)
    default: {
      const emphasis = makeElement(part.type)
      emphasis.append(...render(part.parts))
      return emphasis
    }
  }
}

/** @param {string} name @param {string} [text] */
function makeElement(name, text = '') {
  const element = document.createElement(name)
  element.textContent = text
  return element
}

/** @param {import('./markdown.js').Link} part */
function makeLink(part) {
  const link = document.createElement('a')
  link.href = part.href
  link.textContent = shownAddress(part)
  link.dir = 'ltr' // Otherwise a word from right to left would change places with what is beside it.
  link.target = '_blank'
  link.rel = 'noopener noreferrer nofollow'
  return link
}
