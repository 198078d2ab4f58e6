import { once } from 'node:events'
import { connect } from 'node:net'
import t from 'tap'
import { startService } from '../helpers/app.ts'
import { config } from '../helpers/database.ts'
import { startProxy } from '../helpers/proxy.ts'

t.test('livez and readyz answer 200 while all is well', async (t) => {
  const { call } = await startService(t)
  for (const path of ['/health/livez', '/health/readyz']) {
    const { status, body } = await call('GET', path)
    t.equal(status, 200)
    t.strictSame(body, { status: 'ok' })
  }
})

for (const [engine, sentence, code] of [
  ['postgres', 'database is not ready', 'database_unavailable'],
  ['redis', 'redis is not ready', 'redis_unavailable']
] as const) {
  t.test(
    `${engine} down and hanging: readyz says so within 2 s, livez stays, and both recover`,
    async (t) => {
      const proxy =
        engine === 'postgres'
          ? await startProxy(t, config.POSTGRES_HOST!, config.POSTGRES_PORT)
          : await startProxy(t, config.REDIS_HOST!, config.REDIS_PORT)
      const { call } = await startService(
        t,
        engine === 'postgres'
          ? { POSTGRES_HOST: '127.0.0.1', POSTGRES_PORT: proxy.port }
          : { REDIS_HOST: '127.0.0.1', REDIS_PORT: proxy.port }
      )

      for (const failure of ['cut', 'freeze'] as const) {
        await proxy[failure]()
        const asked = performance.now()
        const { status, headers, body } = await call('GET', '/health/readyz')
        t.ok(performance.now() - asked < 2000, `${failure}: answered in time`)
        t.equal(status, 503, failure)
        t.match(body, { error: sentence, code })
        t.match(headers.get('retry-after'), /^\d+$/)
        t.equal((await call('GET', '/health/livez')).status, 200)

        await proxy.mend()
        while ((await call('GET', '/health/readyz')).status !== 200);
        t.pass(`${failure}: ready again`)
      }
    }
  )
}

t.test(
  'a service that shuts down finishes what it has begun, and readyz tells whoever still asks',
  async (t) => {
    const proxy = await startProxy(t, config.POSTGRES_HOST!, config.POSTGRES_PORT)
    const { app, url, register } = await startService(t, {
      POSTGRES_HOST: '127.0.0.1',
      POSTGRES_PORT: proxy.port
    })
    const { token } = await register()
    const socket = connect(Number(new URL(url).port), '127.0.0.1')
    const ended = once(socket, 'close')
    let answers = ''
    socket.on('data', (data) => {
      answers += data
    })
    const ask = async (request: string, headers = '', body = '') => {
      const arrived = once(app.server, 'request')
      socket.write(`${request} HTTP/1.1\r\nhost: chat\r\n${headers}\r\n${body}`)
      await arrived
    }

    proxy.freeze()
    const body = '{"text":"begun"}'
    await ask(
      'POST /api/messages',
      `authorization: Bearer ${token}\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n`,
      body
    )
    const closed = app.close()
    while (app.server.listening) await new Promise(setImmediate)
    await ask('GET /health/readyz') // Its answer follows the one before it on this connection.
    await proxy.mend()
    await Promise.all([closed, ended])
    t.match(
      answers,
      /^HTTP\/1\.1 201 Created[^]*HTTP\/1\.1 503 [^]*"error":"shutting down","code":"shutting_down"/
    )
  }
)
