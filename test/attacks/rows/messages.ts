import { Agent } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { connect } from '../../helpers/database.ts'
import { waitUntil } from '../../helpers/raw.ts'
import { post } from '../../load/scenarios.ts'
import { send } from '../../load/send.ts'
import { CONNECTIONS } from '../attacker.ts'
import { bearer, count } from '../requests.ts'
import { type Account, row, type Stage } from '../row.ts'

const agent = new Agent({ keepAlive: true, maxSockets: CONNECTIONS })

const PUBLIC_PATHS = ['/', '/web/main.js', '/web/style.css', '/api/docs', '/api/openapi.json', '/metrics']

const SEARCHED = ['one two three and four', 'two three one or four', 'three one and two times four']
// The last ones have many candidates, and are nowhere.
const SEARCHES = ['one', 'four', 'o t', 'on', 'th', '"two three"', '"two one"', '"four one"', 'one twx']

const WRITES = '5 posts, edits and deletes a second and a burst of 10, for an account'

const edit = (id: number, token: string, text: string) => ({
  method: 'PATCH',
  path: `/api/messages/${id}`,
  headers: { 'content-type': 'application/json', ...bearer(token) },
  body: JSON.stringify({ text })
})

/** Registers accounts, each with a message of its own. */
async function registerAuthors(
  { url, register }: Stage,
  number: number
): Promise<(Account & { messageId: number })[]> {
  return Promise.all(
    (await register(number)).map(async (account) => {
      const { body } = await send(url, post('/api/messages', { text: 'hello' }, account.token), {
        agent: false
      })
      return { ...account, messageId: (JSON.parse(body) as { id: number }).id }
    })
  )
}

/** What is written into the room, by clients and by SQL. */
export const messages = [
  row({
    name: 'edits by many accounts',
    sent: '24 accounts that edit their messages as fast as they are answered',
    stops: `${WRITES}; no statement and no trigger is ever JIT-compiled under the lock of the log`,
    prepare: (stage) => registerAuthors(stage, 24),
    attack: async (attacker, authors) => {
      const answers: number[] = []
      await attacker.repeat(24, async (n) => {
        const { messageId, token } = authors[n]!
        const { status } = await attacker.ask(edit(messageId, token, `edited ${answers.length}`))
        if (!attacker.isOver) answers.push(status)
      })
      return count(answers)
    },
    expect: ({ t }, found) => {
      t.strictSame(
        Object.keys(found).filter((status) => !['200', '429'].includes(status)),
        [],
        'each is done or limited'
      )
      t.ok((found['200'] ?? 0) >= 24 * 10, 'the bursts of all of them are done')
    }
  }),

  row({
    name: 'posts, edits and deletes without a pause',
    sent: 'one account that posts, edits and deletes on 48 connections as fast as it is answered',
    stops: WRITES,
    prepare: async (stage) => {
      const [author] = await registerAuthors(stage, 1)
      const { rows } = await stage.sql.query<{ id: number }>(
        `insert into chat_message (user_id, text, created_at)
        select $1, 'to be deleted', now() from generate_series(1, 2000) returning id`,
        [author!.userId]
      )
      return { token: author!.token, ids: rows.map(({ id }) => id) }
    },
    attack: async (attacker, { token, ids }) => {
      const answers: number[] = []
      const started = performance.now()
      await attacker.repeat(48, async (n) => {
        const id = ids.pop() ?? 0
        const requests = [
          post('/api/messages', { text: 'again' }, token),
          edit(id, token, 'edited'),
          { method: 'DELETE', path: `/api/messages/${id}`, headers: bearer(token) }
        ]
        answers.push((await attacker.ask(requests[n % 3]!)).status)
      })
      return { answers: count(answers), seconds: (performance.now() - started) / 1000 }
    },
    expect: ({ t }, { answers, seconds }) => {
      const done = (answers['200'] ?? 0) + (answers['201'] ?? 0)
      t.ok(done <= 10 + 5 * seconds, `${done} are done in ${seconds.toFixed(1)} s`)
      t.ok((answers['429'] ?? 0) > 0, 'the others are refused')
    }
  }),

  row({
    name: 'a room of huge messages',
    sent: '300 messages of 1 MB, by SQL, in a room that has 50 of them',
    stops: 'the timeline is bounded in bytes, not only in messages',
    seconds: 8,
    page: '/api/messages?limit=1',
    prepare: async ({ database, insert, register }) => {
      await insert(50, 'x'.repeat(1_000_000))
      return { database, author: (await register(1))[0]!.userId }
    },
    attack: async (attacker, { database, author }) => {
      const sql = await connect({ teardown: () => {} }, database)
      for (let n = 0; n < 100; n++) {
        await sql.query(
          `insert into chat_message (user_id, text, created_at)
          select $1, repeat('x', 1000000), now() from generate_series(1, 3)`,
          [author]
        )
        await sleep(50)
      }
      await sql.end()
      await attacker.over
    }
  }),

  row({
    name: 'a restart in a room of huge messages',
    sent: '300 messages of 1 MB and 100 small ones, by SQL, before the service is started again',
    stops: 'what is read at a start is bounded in bytes, too',
    isFresh: true,
    prepare: async ({ insert }) => {
      await insert(300, 'x'.repeat(1_000_000))
      await insert(100, 'small')
    },
    attack: (attacker) => attacker.over
  }),

  row({
    name: 'older pages all the time',
    sent: '50 connections that ask for pages of 200 long messages from anywhere in a room of 20,000, one after the other',
    stops:
      'a connection has one request handled at a time; a third of the database connections read older pages',
    prepare: ({ insert }) => insert(20_000, 'A long message. '.repeat(60)),
    attack: async (attacker, ids) => {
      const answers: number[] = []
      await attacker.repeat(CONNECTIONS, async () => {
        const before = ids[Math.floor(Math.random() * (ids.length - 2000))] ?? 0
        const path = `/api/messages?limit=200&before_id=${before}`
        const { status } = await attacker.ask({ path }, { agent })
        if (!attacker.isOver) answers.push(status)
      })
      return count(answers)
    },
    expect: ({ t }, found) => {
      const other = Object.keys(found).filter((status) => !['200', '503'].includes(status))
      t.strictSame(other, [], 'each is answered or told to come back')
      t.ok((found['200'] ?? 0) > 50, 'many of them are answered')
    }
  }),

  row({
    name: 'searches all the time',
    sent: '50 connections that search for frequent words, phrases of them and beginnings of words in a room of 60,000 messages, one after the other',
    stops:
      'a connection has one request handled at a time; a fifth of the database connections search, each for about 250 ms, and 100 searches wait',
    prepare: async ({ insert, sql }) => {
      for (const text of SEARCHED) await insert(20_000, text)
      const isIndexed = async () =>
        (await sql.query('select from chat_search_state where below is null and seq >= 60000')).rowCount === 1
      await waitUntil('the messages are indexed', isIndexed, 120_000)
    },
    attack: async (attacker) => {
      const answers: number[] = []
      await attacker.repeat(CONNECTIONS, async (n) => {
        const q = SEARCHES[n % SEARCHES.length] ?? ''
        const path = `/api/search?limit=200&q=${encodeURIComponent(q)}`
        const { status } = await attacker.ask({ path }, { agent })
        if (!attacker.isOver) answers.push(status)
      })
      return count(answers)
    },
    expect: ({ t }, answers) => {
      const others = Object.keys(answers).filter((status) => !['200', '503'].includes(status))
      t.strictSame(others, [], 'each is answered, or refused as busy')
      t.ok((answers['200'] ?? 0) > 0, 'some are answered')
    }
  }),

  row({
    name: 'what is public and large',
    sent: '50 connections that ask for the page, its files, the OpenAPI document and the metrics, one after the other',
    stops:
      'a connection has one request handled at a time; the document is made once, and metrics once for all who wait for them',
    attack: async (attacker) => {
      const answers: number[] = []
      await attacker.repeat(CONNECTIONS, async (n) => {
        const path = PUBLIC_PATHS[n % PUBLIC_PATHS.length]!
        const { status } = await attacker.ask({ path }, { agent })
        if (!attacker.isOver) answers.push(status)
      })
      return count(answers)
    },
    expect: ({ t }, found) => t.strictSame(Object.keys(found), ['200'], 'each is answered')
  })
]
