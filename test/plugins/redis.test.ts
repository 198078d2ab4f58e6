import { Redis } from 'ioredis'
import t from 'tap'
import { startService } from '../helpers/app.ts'
import { config, connect } from '../helpers/database.ts'
import { startProxy } from '../helpers/proxy.ts'
import { waitUntil } from '../helpers/raw.ts'

t.test('an outage is 503 and never 401, reading works, and nobody is logged out', async (t) => {
  const proxy = await startProxy(t, config.REDIS_HOST!, config.REDIS_PORT)
  const { call, register, database } = await startService(t, {
    REDIS_HOST: '127.0.0.1',
    REDIS_PORT: proxy.port
  })
  const { token, nickname } = await register()
  const post = () => call('POST', '/api/messages', { token, body: { text: 'hi' } })
  const client = await connect(t, database)

  for (const failure of ['cut', 'freeze'] as const) {
    await proxy[failure]()
    const answers = await Promise.all([
      post(),
      call('POST', '/api/login', { body: { nickname, password: 'correct horse' } }),
      call('POST', '/api/logout', { token: 'another' }),
      call('POST', '/api/register', { body: { nickname: `during ${failure}`, password: 'correct horse' } })
    ])
    for (const { status, body, headers } of answers) {
      t.equal(status, 503, failure)
      t.match(body, { error: 'redis is not ready', code: 'redis_unavailable' })
      t.match(headers.get('retry-after'), /^\d+$/)
    }
    t.equal((await call('GET', '/api/messages')).status, 200, 'reading needs no Redis')
    const { rowCount } = await client.query('select from chat_user where nickname = $1', [
      `during ${failure}`
    ])
    t.equal(rowCount, 0, 'a registration that failed left no account')

    await proxy.mend()
    await waitUntil('readyz is 200', async () => (await call('GET', '/health/readyz')).status === 200)
    t.equal((await post()).status, 201, 'still logged in')
    t.equal(
      (
        await call('POST', '/api/register', {
          body: { nickname: `during ${failure}`, password: 'correct horse' }
        })
      ).status,
      201
    )
  }
})

t.test('a connection that went silent is replaced', async (t) => {
  const proxy = await startProxy(t, config.REDIS_HOST!, config.REDIS_PORT)
  const { call } = await startService(t, { REDIS_HOST: '127.0.0.1', REDIS_PORT: proxy.port })
  proxy.blackhole()
  t.equal((await call('GET', '/health/readyz')).status, 503)
  await waitUntil('readyz is 200', async () => (await call('GET', '/health/readyz')).status === 200)
})

t.test('a connection that the server closes is replaced', async (t) => {
  const { call, app } = await startService(t)
  const id = await app.redis.client('ID')
  const admin = new Redis({
    host: config.REDIS_HOST,
    port: config.REDIS_PORT,
    password: config.REDIS_PASSWORD
  })
  t.teardown(() => admin.disconnect())
  await admin.client('KILL', 'ID', id)
  await waitUntil('readyz is 200', async () => (await call('GET', '/health/readyz')).status === 200)
})
