import { EventEmitter, once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { availableParallelism } from 'node:os'
import t from 'tap'
import { createPasswords, MAX_WAITING } from '../../src/accounts/passwords.ts'
import { Busy, ClientGone } from '../../src/errors.ts'
import { startService } from '../helpers/app.ts'

const threads = Math.max(1, availableParallelism() - 1)
const never = new AbortController().signal

t.test('so many wait and no more; who gave up is not worked for', async (t) => {
  const passwords = createPasswords(8)
  t.teardown(passwords.close)
  const working = Array.from({ length: threads }, () => passwords.hash('x', never))
  const impatient = new AbortController()
  const waiting = Array.from({ length: MAX_WAITING }, (_, i) => passwords.verify('x', undefined, i === 0 ? impatient.signal : never))
  await t.rejects(passwords.hash('x', never), Busy)
  await t.rejects(passwords.verify('x', undefined, never), Busy)
  impatient.abort()
  await t.rejects(waiting.shift()!, ClientGone)
  const instead = passwords.hash('x', never) // in the place that became free
  await t.rejects(passwords.hash('x', never), Busy)
  await t.rejects(passwords.hash('x', AbortSignal.abort()), ClientGone)
  for (const hash of await Promise.all([...working, instead])) t.match(hash, /^\$2b\$08\$.{53}$/)
  t.strictSame(new Set(await Promise.all(waiting)), new Set([false]))
  t.ok(await passwords.verify('x', await passwords.hash('x', never), never), 'and it goes on')
})

t.test('an error in a thread is that of one password, and the next one works', async (t) => {
  const passwords = createPasswords(99) // a cost that bcrypt does not know
  t.teardown(passwords.close)
  await t.rejects(Promise.all(Array.from({ length: threads + 1 }, () => passwords.hash('x', never))))
  t.notOk(await passwords.verify('x', '$2b$04$' + '.'.repeat(53), never))
})

t.test('threads have a low priority, and end', { skip: process.platform !== 'linux' }, async (t) => {
  const nice = () => readdirSync('/proc/self/task').map((id) => {
    try { return readFileSync(`/proc/self/task/${id}/stat`, 'latin1').split(') ').at(-1)!.split(' ')[16] } catch { return undefined }
  }).filter((value) => value === '10').length
  const before = nice()
  const passwords = createPasswords(4)
  await Promise.all(Array.from({ length: threads + 1 }, () => passwords.hash('x', never)))
  t.equal(nice(), before + threads)
  await passwords.close()
  while (nice() !== before);
  t.pass('ended')
})

t.test('a storm of logins: those beyond the queue are told to come back, those who hung up are forgotten, and reading goes on', async (t) => {
  const { call, url, app } = await startService(t, { BCRYPT_COST: 8 })
  const nobody = { nickname: 'nobody', password: 'correct horse' }
  const storm = Promise.all(Array.from({ length: MAX_WAITING * 3 }, () => call('POST', '/api/login', { body: nobody })))
  t.equal((await call('GET', '/api/messages')).status, 200)
  const answers = await storm
  const refused = answers.filter(({ status }) => status === 503)
  t.ok(refused.length > 0)
  t.equal(answers.filter(({ status }) => status === 401).length, answers.length - refused.length)
  for (const { body, headers } of refused) {
    t.match(body, { error: 'service is busy, try again soon', code: 'busy' })
    t.match(headers.get('retry-after'), /^\d+$/)
  }

  const body = JSON.stringify(nobody)
  const arrivals = new EventEmitter().setMaxListeners(0)
  app.server.on('request', ({ headers }) => arrivals.emit(`${headers['x-request-id']}`))
  const send = async (id: string, connection = 'keep-alive') => {
    const socket = connect(Number(new URL(url).port), '127.0.0.1')
    await once(socket, 'connect')
    const arrived = once(arrivals, id)
    socket.write(`POST /api/login HTTP/1.1\r\nhost: x\r\nx-request-id: ${id}\r\nconnection: ${connection}\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`)
    await arrived
    return socket
  }
  for (const socket of await Promise.all(Array.from({ length: MAX_WAITING }, (_, i) => send(`left-${i}`)))) socket.destroy()
  t.equal((await call('POST', '/api/login', { body: nobody })).status, 401)

  const socket = await send('last', 'close')
  const [[answer]] = await Promise.all([once(socket, 'data'), app.close()])
  t.match(`${answer}`, /^HTTP\/1\.1 401 /, 'a shutdown finishes what has begun')
})
