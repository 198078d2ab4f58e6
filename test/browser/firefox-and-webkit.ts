import { existsSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { ChatClient } from '../../client/index.js'
import { freePort } from '../../src/embedded/process.ts'
import { startService } from '../helpers/app.ts'
import { connect } from '../helpers/database.ts'
import { type Hands, startFirefox, startWebKit, startWitness } from '../helpers/other-browsers.ts'
import { waitUntil } from '../helpers/raw.ts'

// The main paths once more, in the two other families of browsers.

const TIMEOUT_MS = 60_000
const TEXTS = `[...document.querySelectorAll('#messages .text')].map(({ textContent }) => textContent)`

/** Resolves once the page shows a message with that text. */
const sees = (hands: Hands, text: string) =>
  waitUntil(
    `the page shows ${text}`,
    async () => (await hands.look<string[]>(TEXTS)).includes(text),
    TIMEOUT_MS
  )

/** Resolves once the list has stopped moving. @returns where its view is */
async function atRest(hands: Hands): Promise<number> {
  const top = () => hands.look<number>(`document.querySelector('#scroller').scrollTop`)
  let last = await top()
  await waitUntil('the list is at rest', async () => {
    await sleep(300)
    const before = last
    last = await top()
    return last === before
  })
  return last
}

async function useThePage(t: Test, hands: Hands) {
  const first = await startService(t)
  const { database, register, url } = first
  const { userId, token } = await register()
  const bob = new ChatClient({ url, token })
  const sql = await connect(t, database)
  await sql.query(
    `insert into chat_message (user_id, text, created_at)
    select $1, 'message ' || n, now() - make_interval(mins => 300 - n) from generate_series(1, 300) n`,
    [userId]
  )
  const front = await startWitness(t, url)

  await hands.open(front.url)
  await sees(hands, 'message 300')
  await hands.type('input[name=nickname]', 'alice')
  await hands.type('input[name=password]', 'correct horse')
  await hands.click('button[value=register]')
  await waitUntil(
    'alice can write',
    () => hands.look(`document.querySelector('#text')?.checkVisibility()`),
    TIMEOUT_MS
  )
  await hands.type('#text', 'hello from alice')
  await hands.press('Enter')
  await sees(hands, 'hello from alice')
  await waitUntil('it is posted', async () => (await bob.listMessages()).at(-1)?.text === 'hello from alice')
  await bob.postMessage({ text: 'hello from bob' })
  await sees(hands, 'hello from bob')
  t.pass('she registers, posts, and sees what others say')

  await hands.look(`document.querySelector('#scroller').focus()`)
  const height = await hands.look<number>(`document.querySelector('#scroller').clientHeight`)
  const end = await atRest(hands)
  await hands.press('PageUp')
  await waitUntil('the view moves', async () => (await atRest(hands)) < end - height / 2)
  t.pass('PageUp moves the view by a page')

  const seen = new Set<string>()
  await waitUntil(
    'the wheel has reached the first message',
    async () => {
      await hands.wheel('#scroller', -15)
      for (const text of await hands.look<string[]>(TEXTS)) seen.add(text)
      return seen.has('message 1')
    },
    2 * TIMEOUT_MS
  )
  const missing = Array.from({ length: 300 }, (_, n) => `message ${n + 1}`).filter((text) => !seen.has(text))
  t.strictSame(missing, [], 'the wheel leads back through all messages')

  await hands.click('#newest')
  await sees(hands, 'hello from bob')
  await first.app.close()
  await waitUntil(
    'the page says so',
    () =>
      hands.look(
        `/cannot be reached/.test(document.querySelector('[role=status]:not([hidden])')?.textContent)`
      ),
    TIMEOUT_MS
  )
  await hands.type('#text', 'written in an outage')
  await hands.press('Enter')
  const second = await startService(t, { POSTGRES_DB: database })
  front.target = second.url
  await waitUntil(
    'the post has arrived',
    async () =>
      (await new ChatClient({ url: second.url }).listMessages()).at(-1)?.text === 'written in an outage',
    2 * TIMEOUT_MS
  )
  await sees(hands, 'written in an outage')
  t.pass('what is written during an outage is posted after it')

  const faults = await hands.look<string[]>('faults')
  await hands.reload()
  await sees(hands, 'written in an outage')
  await waitUntil(
    'she is still logged in',
    () => hands.look(`document.querySelector('#text')?.checkVisibility()`),
    TIMEOUT_MS
  )
  t.pass('a reload changes nothing')
  t.strictSame([...faults, ...(await hands.look<string[]>('faults'))], [], 'no error on the page')
}

const FIREFOX = '/usr/bin/firefox-esr'
/** CI has both browsers, so that it skips nothing. */
const skipWithout = (program: string) => ({
  skip: !process.env['CI'] && !existsSync(program) && `there is no ${program}`
})

for (const [name, program, start] of [
  ['Firefox', FIREFOX, startFirefox],
  ['WebKitGTK', '/usr/bin/WebKitWebDriver', startWebKit]
] as const) {
  t.test(`a person uses the page in ${name}`, skipWithout(program), async (t) =>
    useThePage(t, await start(t))
  )
}

t.test(
  'a part of the page that was out of reach once can be opened later',
  skipWithout(FIREFOX),
  async (t) => {
    const { url } = await startService(t)
    const front = await startWitness(t, url)
    const hands = await startFirefox(t)
    await hands.open(front.url)
    const says = (text: string) =>
      waitUntil(
        `the page says ${text}`,
        () => hands.look<boolean>(`document.body.innerText.includes('${text}')`),
        TIMEOUT_MS
      )
    await says('No messages yet.')
    front.target = `http://127.0.0.1:${await freePort()}`
    await hands.click('#search')
    await says('The server cannot be reached.')
    front.target = url
    await hands.click('#search')
    await waitUntil(
      'the search opens',
      () => hands.look(`document.querySelector('#query') !== null`),
      TIMEOUT_MS
    )
  }
)
