import { kill } from 'node:process'
import type pg from 'pg'
import t from 'tap'
import { persist, startService } from '../helpers/app.ts'
import { type Proxy, startProxy } from '../helpers/proxy.ts'
import { waitUntil } from '../helpers/raw.ts'
import { folder } from '../helpers/server.ts'
import { startDatabase } from '../proof/cluster.ts'

const POOL = 4
const ROUNDS = 4
// One more may look whether those that were given up have ended, and another one end at that moment.
const MOST_BACKENDS = POOL + 2

/** Stops the server processes that wait for the standby where they are. @returns what lets them go on */
function stopWaiting(admin: pg.Client): () => void {
  const stopped = new Set<number>()
  let isOver = false
  const look = async () => {
    const { rows } = await admin.query("select pid from pg_stat_activity where wait_event = 'SyncRep'")
    for (const { pid } of rows) {
      if (isOver || stopped.has(pid)) continue // What is stopped after the end would stay stopped.
      kill(pid, 'SIGSTOP')
      stopped.add(pid)
    }
  }
  const timer = setInterval(() => {
    look().catch(() => {})
  }, 20)
  return () => {
    isOver = true
    clearInterval(timer)
    for (const pid of stopped) kill(pid, 'SIGCONT')
    stopped.clear()
  }
}

const servers: Record<string, (admin: pg.Client, proxy: Proxy) => () => void> = {
  'ends them when it is told to cancel': () => () => {},
  'never hears that it should cancel them': (_admin, proxy) => {
    proxy.swallowCancels()
    return () => {}
  },
  'ends no statement, whatever it is told': stopWaiting
}

t.jobs = Object.keys(servers).length

for (const [server, begin] of Object.entries(servers)) {
  t.test(
    `while no standby confirms commits, given up statements do not pile up on a server that ${server}`,
    async (t) => {
      const postgres = await startDatabase(folder(t))
      t.teardown(() => postgres.down('SIGQUIT'))
      const { POSTGRES_PORT, POSTGRES_USER = '', POSTGRES_PASSWORD = '', POSTGRES_DB = '' } = postgres.env
      const proxy = await startProxy(t, '127.0.0.1', Number(POSTGRES_PORT))
      const { call, register } = await startService(t, {
        POSTGRES_HOST: '127.0.0.1',
        POSTGRES_PORT: proxy.port,
        POSTGRES_USER,
        POSTGRES_PASSWORD,
        POSTGRES_DB,
        POSTGRES_POOL: POOL
      })
      const { token } = await register()
      const postOnce = () =>
        call('POST', '/api/messages', { token, body: { text: 'once' }, headers: { 'idempotency-key': 'k' } })
      const registerAs = (nickname: string) =>
        call('POST', '/api/register', { body: { nickname, password: 'correct horse' } })
      const admin = await postgres.connect()
      t.teardown(() => admin.end())

      await admin.query("alter system set synchronous_standby_names = 'nobody'")
      await admin.query('select pg_reload_conf()')
      await waitUntil('the server waits for its standby', async () => {
        const { rows } = await admin.query('show synchronous_standby_names')
        return rows[0].synchronous_standby_names === 'nobody'
      })
      const goOn = begin(admin, proxy)
      t.teardown(goOn)
      for (let round = 0; round < ROUNDS; round++) {
        const people = Array.from({ length: 10 }, (_, n) => registerAs(`user ${round} ${n}`))
        const message = postOnce()
        t.equal((await call('GET', '/health/livez')).status, 200)
        t.equal((await call('GET', '/api/messages')).status, 200)
        for (const { status } of await Promise.all(people)) t.equal(status, 503)
        const { status, body } = await message
        t.ok(status === 503 || (status === 201 && body.text === 'once'), `the post: ${status}`)
        const { rows } = await admin.query(
          "select count(*)::int as backends from pg_stat_activity where application_name = 'chat-backend'"
        )
        t.ok(rows[0].backends <= MOST_BACKENDS, `round ${round}: ${rows[0].backends} backends`)
      }

      goOn()
      await admin.query('alter system reset synchronous_standby_names')
      await admin.query('select pg_reload_conf()')
      let tries = 0 // each with another nickname, because one that was given up may be stored all the same
      const canRegister = async () => (await registerAs(`later ${++tries}`)).status === 201
      await waitUntil('people can register again', canRegister, 30_000)
      const [first, second] = [await persist(postOnce), await persist(postOnce)]
      t.match([first.status, second.status], [201, 201])
      t.strictSame(first.body, second.body, 'the same key gives the same message')
      t.match((await admin.query("select from chat_message where text = 'once'")).rowCount, 1)
      // The connection that follows the log may just be on its way back.
      await waitUntil('readyz is 200', async () => (await call('GET', '/health/readyz')).status === 200)
    }
  )
}
