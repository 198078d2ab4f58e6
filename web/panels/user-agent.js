// Browsers name those that they want to be taken for as well: so what is rarer comes first.
/** @type {[string, RegExp][]} */
const BROWSERS = [
  ['Edge', /\bEdg(e|A|iOS)?\//],
  ['Opera', /\b(OPR|Opera|OPiOS)\//],
  ['Yandex Browser', /\bYaBrowser\//],
  ['Samsung Internet', /\bSamsungBrowser\//],
  ['Firefox', /\b(Firefox|FxiOS)\//],
  ['Chrome', /\b(HeadlessChrome|Chrome|CriOS)\//],
  ['Safari', /\bSafari\//]
]
/** @type {[string, RegExp][]} */
const SYSTEMS = [
  ['iPhone', /\biPhone\b/],
  ['iPad', /\biPad\b/],
  ['Android', /\bAndroid\b/],
  ['Windows', /\bWindows\b/],
  ['ChromeOS', /\bCrOS\b/],
  ['macOS', /\bMac OS X\b|\bMacintosh\b/],
  ['Linux', /\bLinux\b/]
]

/**
 * Describes a User-Agent header for people: the browser or other program, and the system.
 * @param {string | null} userAgent
 * @returns {{ browser?: string | undefined, system?: string | undefined }}
 */
export function readUserAgent(userAgent) {
  const text = userAgent ?? ''
  const find = (/** @type {[string, RegExp][]} */ known) => known.find(([, sign]) => sign.test(text))?.[0]
  // Others begin with their name, as `curl/8.5.0` does.
  const [, program] = /^(?!Mozilla\/)([\w.-]{1,40})(\/|$)/.exec(text) ?? []
  return { browser: find(BROWSERS) ?? program, system: find(SYSTEMS) }
}
