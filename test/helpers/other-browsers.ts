import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createRequire } from 'node:module'
import { createInterface } from 'node:readline'
import { text } from 'node:stream/consumers'
import { promisify } from 'node:util'
import type puppeteerCore from 'puppeteer-core'
import type { Test } from 'tap'
import { freePort } from '../../src/embedded/process.ts'
import { START_MS } from './browser.ts'
import { waitUntil } from './raw.ts'

// By `require`, because the resolver of tap's TypeScript loader does not find an export of chromium-bidi.
const puppeteer = createRequire(import.meta.url)('puppeteer-core').default as typeof puppeteerCore

/** What a person does with a page, by real mouse and keyboard events. */
export interface Hands {
  open: (url: string) => Promise<void>
  reload: () => Promise<void>
  /** Evaluates an expression on the page. */
  look: <T>(expression: string) => Promise<T>
  click: (selector: string) => Promise<void>
  type: (selector: string, text: string) => Promise<void>
  press: (key: keyof typeof keys) => Promise<void>
  /** Turns the wheel by some notches over an element: up if negative. */
  wheel: (selector: string, notches: number) => Promise<void>
}

/** The keys by their code points in WebDriver: https://www.w3.org/TR/webdriver2/#keyboard-actions */
const keys = { Enter: '\uE007', PageUp: '\uE00E', End: '\uE010' }
const NOTCH_PX = 80

/** Debian's Firefox, without a window. */
export async function startFirefox(t: Test): Promise<Hands> {
  const executablePath = '/usr/bin/firefox-esr'
  const browser = await puppeteer.launch({ browser: 'firefox', executablePath, timeout: START_MS })
  t.teardown(() => browser.close())
  const page = await browser.newPage()
  await page.setViewport({ width: 1024, height: 700 })
  return {
    open: async (url) => {
      await page.goto(url)
    },
    reload: async () => {
      await page.reload()
    },
    look: async <T>(expression: string) => (await page.evaluate(expression)) as T, // the test knows
    click: (selector) => page.locator(selector).click(),
    type: (selector, text) => page.type(selector, text),
    press: (key) => page.keyboard.press(key),
    wheel: async (selector, notches) => {
      await page.locator(selector).hover()
      await page.mouse.wheel({ deltaY: notches * NOTCH_PX })
    }
  }
}

/** A display in memory. @returns its name */
async function startDisplay(t: Test): Promise<string> {
  const args = ['-displayfd', '1', '-screen', '0', '1024x768x24', '-nolisten', 'tcp']
  const display = spawn('Xvfb', args, { stdio: ['ignore', 'pipe', 'ignore'] })
  t.teardown(() => display.kill())
  const [number] = await once(createInterface(display.stdout), 'line')
  return `:${number}`
}

const ELEMENT = 'element-6066-11e4-a52e-4f735466cecf' // the name of an element's id in WebDriver
const MINI_BROWSERS = ['x86_64', 'aarch64'].map(
  (cpu) => `/usr/lib/${cpu}-linux-gnu/webkit2gtk-4.1/MiniBrowser`
)

/**
 * Debian's WebKitGTK, by its WebDriver (https://www.w3.org/TR/webdriver2/), which knows no wheel: the display
 * turns it.
 */
export async function startWebKit(t: Test): Promise<Hands> {
  const env = { ...process.env, DISPLAY: await startDisplay(t) }
  const port = await freePort()
  const driver = spawn('WebKitWebDriver', [`--port=${port}`], { env, stdio: 'ignore' })
  let path = ''
  const call = async (method: string, command: string, body?: object) => {
    const response = await fetch(`http://127.0.0.1:${port}${path}${command}`, {
      method,
      ...(body && { body: JSON.stringify(body) })
    })
    const { value } = JSON.parse(await response.text())
    if (!response.ok) throw new Error(`${command}: ${value.error} ${value.message}`)
    return value
  }
  const isListening = () => call('GET', '/status').then(Boolean, () => false)
  await waitUntil('WebKitWebDriver listens', isListening, START_MS)
  const options = { binary: MINI_BROWSERS.find((it) => existsSync(it)), args: ['--automation'] }
  const capabilities = { alwaysMatch: { 'webkitgtk:browserOptions': options } }
  const { sessionId } = await call('POST', '/session', { capabilities })
  path = `/session/${sessionId}`
  t.teardown(async () => {
    await call('DELETE', '')
    driver.kill()
  })
  const look = (expression: string) =>
    call('POST', '/execute/sync', { script: `return ${expression}`, args: [] })
  const find = async (selector: string) =>
    `/element/${(await call('POST', '/element', { using: 'css selector', value: selector }))[ELEMENT]}`
  return {
    look,
    open: (url) => call('POST', '/url', { url }),
    reload: () => call('POST', '/refresh', {}),
    click: async (selector) => call('POST', `${await find(selector)}/click`, {}),
    type: async (selector, text) => call('POST', `${await find(selector)}/value`, { text }),
    press: (key) => {
      const actions = ['keyDown', 'keyUp'].map((type) => ({ type, value: keys[key] }))
      return call('POST', '/actions', { actions: [{ type: 'key', id: 'keyboard', actions }] })
    },
    wheel: async (selector, notches) => {
      // The window covers the display, and has its bar of tools above the page.
      const middle = await look(`(() => {
        const { left, top, width, height } = document.querySelector('${selector}').getBoundingClientRect()
        return [left + width / 2, top + height / 2 + outerHeight - innerHeight].map(Math.round)
      })()`)
      const click = ['click', '--repeat', `${Math.abs(notches)}`, '--delay', '10', notches < 0 ? '4' : '5']
      await promisify(execFile)('xdotool', ['mousemove', ...middle.map(String), ...click], { env })
    }
  }
}

/** Runs before the scripts of the page, and notes what goes wrong on it. */
const WITNESS = `
window.faults = []
addEventListener('error', (event) => faults.push(event.message))
addEventListener('unhandledrejection', (event) => faults.push(String(event.reason)))
addEventListener('securitypolicyviolation', (event) => faults.push(event.violatedDirective))
const { error } = console
console.error = (...values) => { faults.push(values.join(' ')); error(...values) }
`

/** What is between the browser and the service: it adds the witness to the page, and outlives the service. */
export async function startWitness(t: Test, target: string) {
  const front = { url: '', target }
  const pass = (incoming: IncomingMessage, outgoing: ServerResponse) => {
    const { method, url = '' } = incoming
    const headers = { ...incoming.headers, 'accept-encoding': 'identity' }
    const upstream = request(`${front.target}${url}`, { method, headers, agent: false }, async (answer) => {
      const isFirstScript = url.split('?')[0] === '/web/i18n.js'
      const { 'content-length': _, ...others } = answer.headers
      outgoing.writeHead(answer.statusCode ?? 502, isFirstScript ? others : answer.headers)
      outgoing.flushHeaders()
      if (!isFirstScript) answer.on('error', () => outgoing.destroy()).pipe(outgoing)
      else outgoing.end(WITNESS + (await text(answer)))
    })
    upstream.on('error', () => outgoing.destroy())
    outgoing.on('close', () => upstream.destroy())
    incoming.pipe(upstream)
  }
  const server: Server = createServer(pass).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    server.closeAllConnections()
  })
  front.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return front
}
