import { sayDate } from './i18n.js'
import { within } from './page.js'

/**
 * Puts a text on the clipboard.
 * @param {string} text @returns {Promise<boolean>} false if the browser refuses
 */
export async function copyText(text) {
  // There is a clipboard on pages that came by HTTPS, and on localhost.
  if (navigator.clipboard) {
    return navigator.clipboard.writeText(text).then(
      () => true,
      () => copyByCommand(text)
    )
  }
  return copyByCommand(text)
}

/** @param {string} text */
function copyByCommand(text) {
  const fill = (/** @type {ClipboardEvent} */ event) => {
    event.clipboardData?.setData('text/plain', text)
    event.preventDefault()
    event.stopImmediatePropagation()
  }
  document.addEventListener('copy', fill, { capture: true })
  try {
    return document.execCommand('copy')
  } finally {
    document.removeEventListener('copy', fill, { capture: true })
  }
}

/**
 * Whoever copies from more than one message gets the authors and times as well.
 * @param {HTMLElement} list of the messages
 * @param {(id: number) => import('../schemas/messages.ts').Message | undefined} find
 */
export function copyWithAuthors(list, find) {
  document.addEventListener('copy', (event) => {
    const selection = getSelection()
    if (!selection || selection.rangeCount === 0 || event.target instanceof HTMLTextAreaElement) return
    const selected = selection.getRangeAt(0)
    /** @type {string[]} */
    const copied = []
    for (const item of list.children) {
      if (!(item instanceof HTMLElement) || !selected.intersectsNode(item)) continue
      const message = find(Number(item.dataset['id']))
      const text = message && selectedText(selected, within(item, '.text'), message.text)
      if (!text) continue
      copied.push(`${message.nickname}, ${sayDate(new Date(message.createdAt), 'moment')}:\n${text}`)
    }
    if (copied.length < 2) return
    event.clipboardData?.setData('text/plain', copied.join('\n\n'))
    event.preventDefault()
  })
}

/**
 * What is selected of a text: as it was written, if that is all of it.
 * @param {Range} selected @param {HTMLElement} element @param {string} text
 */
function selectedText(selected, element, text) {
  const own = document.createRange()
  own.selectNodeContents(element)
  const isStart = selected.compareBoundaryPoints(Range.START_TO_START, own) <= 0
  const isEnd = selected.compareBoundaryPoints(Range.END_TO_END, own) >= 0
  if (isStart && isEnd) return text
  if (!isStart) own.setStart(selected.startContainer, selected.startOffset)
  if (!isEnd) own.setEnd(selected.endContainer, selected.endOffset)
  return selected.intersectsNode(element) ? own.toString() : ''
}
