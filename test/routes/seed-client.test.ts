import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { startService } from '../helpers/app.ts'
import { connect } from '../helpers/database.ts'

interface Message {
  id: number
  text: string
}

const POLL_MS = 30 // a hundredth of what it takes in life, so that there are as many polls

t.test(
  'the first web client, which polls and adds its own posts itself, gets each message exactly once',
  async (t) => {
    const { url, register, database } = await startService(t)
    const { userId, token } = await register()
    const sql = await connect(t, database)

    // As that page did it, to the letter: one list, the last id of it, and `error` for the person.
    const client = async (token: string, posts: number) => {
      const shown: Message[] = []
      const polled: number[] = []
      let said = ''
      let isDone = false
      const add = (message: Message) => {
        if (!shown.some(({ id }) => id === message.id)) shown.push(message)
      }
      const polling = (async () => {
        let last = 0
        for (let isLast = false; !isLast; await sleep(POLL_MS)) {
          isLast = isDone
          const page: Message[] = await (await fetch(`${url}/api/messages?after_id=${last}`)).json()
          page.forEach(add)
          polled.push(...page.map(({ id }) => id))
          const newest = page.at(-1)?.id ?? last
          if (newest > last) isLast = false
          last = newest
        }
      })()
      for (let n = 0; n < posts; n++) {
        const response = await fetch(`${url}/api/messages`, {
          method: 'POST',
          headers: { 'content-type': 'application/json', authorization: `Bearer ${token}` },
          body: JSON.stringify({ text: n % 10 ? `${token.slice(0, 4)} ${n}` : '' })
        })
        const data = await response.json()
        if (response.ok) add(data)
        else said = data.error
      }
      return {
        shown,
        polled,
        said: () => said,
        stop: () => {
          isDone = true
          return polling
        }
      }
    }
    const others = (async () => {
      for (let n = 0; n < 100; n++) {
        await sql.query(
          "insert into chat_message (user_id, text, created_at) values ($1, 'from Django ' || $2, now())",
          [userId, n]
        )
      }
    })()
    const users = [token, (await register()).token, (await register()).token]
    const clients = await Promise.all(users.map((token) => client(token, 60)))
    await others
    await Promise.all(clients.map(({ stop }) => stop()))
    const { rows } = await sql.query<{ id: number; text: string }>(
      'select id, text from chat_message order by id'
    )
    t.equal(rows.length, 3 * 54 + 100)
    for (const { shown, polled, said } of clients) {
      // Its own posts as well: it shows each of them once, whichever way they came first.
      t.strictSame(
        polled,
        rows.map(({ id }) => id),
        'the pages have each message once, in order'
      )
      t.strictSame(
        shown.map(({ id, text }) => ({ id, text })).sort((a, b) => a.id - b.id),
        rows
      )
      t.equal(said(), 'message text must be provided')
    }
  }
)
