import { once } from 'node:events'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import t from 'tap'
import { startQuietService } from '../helpers/app.ts'
import { measure } from '../helpers/clock.ts'
import { config, connect } from '../helpers/database.ts'
import { startProxy } from '../helpers/proxy.ts'

// The service gives up connecting to PostgreSQL after 2 s.
const PROMPTLY_MS = 1000

t.test('a service stops at once while it connects to a PostgreSQL that does not answer', async (t) => {
  const proxy = await startProxy(t, config.POSTGRES_HOST!, config.POSTGRES_PORT)
  const { app, database } = await startQuietService(t, {
    POSTGRES_HOST: '127.0.0.1',
    POSTGRES_PORT: proxy.port
  })
  const silent = createServer().listen(0, '127.0.0.1')
  await once(silent, 'listening')
  t.teardown(() => silent.close())

  proxy.redirect((silent.address() as AddressInfo).port)
  const connected = once(silent, 'connection') as Promise<[Socket]>
  const client = await connect(t, database)
  await client.query(
    "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'chat-backend log'"
  )
  const [socket] = await connected
  await once(socket, 'data')
  const { ms } = await measure(() => app.close())
  t.ok(ms < PROMPTLY_MS, `after ${Math.round(ms)} ms`)
})
