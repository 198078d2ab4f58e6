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
