// What the page keeps in the browser, all of it under one prefix.
const PREFIX = 'chat.'
/** Where the browser forbids it, it lives as long as the page. @type {Record<string, string>} */
let store = {}
try { store = localStorage } catch {}

/** @param {string} name */
export const load = (name) => store[PREFIX + name]
/** The names that begin so. @param {string} start */
export const names = (start) => Object.keys(store).filter((key) => key.startsWith(PREFIX + start)).map((key) => key.slice(PREFIX.length))
/** @param {string} name @param {string | undefined} value undefined: forgotten */
export function save (name, value) {
  try {
    if (value === undefined) delete store[PREFIX + name]
    else store[PREFIX + name] = value
  } catch {} // it is full
}
/** Calls back when another tab has changed what begins so. @param {string} start @param {() => void} changed */
export const onOtherTab = (start, changed) => addEventListener('storage', ({ key }) => { if (key === null || key.startsWith(PREFIX + start)) changed() })
