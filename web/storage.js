/** Every name that the page uses begins with this in the browser's storage. */
const PREFIX = 'chat.'

/**
 * A storage of the browser that never throws. Browsers refuse access (SecurityError), run out of space
 * (QuotaExceededError), and let the reader or another tab change or remove anything at any time. A value
 * that cannot be stored stays in memory, for as long as the page lives.
 */
class Store {
  /** What the browser did not take. @type {Map<string, string>} */
  #memory = new Map()
  #open

  /** @param {() => Storage} open is called for each access, because the access itself can throw */
  constructor(open) {
    this.#open = open
  }

  /**
   * @template Result
   * @param {(storage: Storage) => Result} access
   * @returns {Result | undefined} undefined where the browser refuses
   */
  #try(access) {
    try {
      return access(this.#open())
    } catch {
      return undefined
    }
  }

  /** @param {string} name */
  load(name) {
    return this.#memory.get(name) ?? this.#try((storage) => storage.getItem(PREFIX + name)) ?? undefined
  }

  /**
   * @param {string} name
   * @returns {unknown} what the JSON there means; undefined without any, or with broken JSON
   */
  loadJson(name) {
    try {
      return JSON.parse(this.load(name) ?? '')
    } catch {
      return undefined
    }
  }

  /** @param {string} start @returns {string[]} the names that begin so */
  names(start) {
    const stored = this.#try((storage) => Object.keys(storage)) ?? []
    const ours = stored.filter((key) => key.startsWith(PREFIX)).map((key) => key.slice(PREFIX.length))
    return [...new Set([...ours, ...this.#memory.keys()])].filter((name) => name.startsWith(start))
  }

  /** @param {string} name @param {string} value @returns {boolean} whether it will survive a reload */
  save(name, value) {
    const isStored =
      this.#try((storage) => {
        storage.setItem(PREFIX + name, value)
        return true
      }) ?? false
    this.forget(name)
    if (!isStored) {
      // The old value must not come back with the next page.
      this.#try((storage) => storage.removeItem(PREFIX + name))
      this.#memory.set(name, value)
    }
    return isStored
  }

  /** @param {string} name */
  remove(name) {
    this.#memory.delete(name)
    this.#try((storage) => storage.removeItem(PREFIX + name))
  }

  /** Drops what is in memory, because there is something newer. @param {string} name */
  forget(name) {
    this.#memory.delete(name)
  }
}

/** Shared by all tabs. */
export const shared = new Store(() => localStorage)
/** For this tab alone. */
export const tab = new Store(() => sessionStorage)

/**
 * Calls back when another tab has changed what is shared.
 * @param {string} start the names that matter begin so
 * @param {(name: string | undefined, value: string | undefined) => void} changed gets the new value,
 *   undefined if it was removed; and no name if everything was
 */
export function onOtherTab(start, changed) {
  addEventListener('storage', ({ key, newValue }) => {
    if (key === null) return changed(undefined, undefined)
    if (!key.startsWith(PREFIX + start)) return
    const name = key.slice(PREFIX.length)
    if (newValue !== null) shared.forget(name)
    changed(name, newValue ?? undefined)
  })
}
