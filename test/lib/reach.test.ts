import { once } from 'node:events'
import { type AddressInfo, createServer, type LookupFunction } from 'node:net'
import t from 'tap'
import { reach } from '../../src/lib/reach.ts'

const fails =
  (code: string): LookupFunction =>
  (host, _options, done) =>
    done(Object.assign(new Error(`getaddrinfo ${code} ${host}`), { code }), '', 4)
const address = { host: 'db.example', port: 5432 }

t.test('a name that DNS does not resolve is not blamed on the engine', async (t) => {
  // A real lookup keeps the process alive, which the timeout of a socket does not.
  const alive = setInterval(() => {}, 60_000)
  t.teardown(() => clearInterval(alive))
  for (const [lookup, message] of [
    [() => {}, 'DNS did not answer for db.example within 0.1 s'],
    [fails('ENOTFOUND'), 'DNS has no address for db.example'],
    [fails('EAI_AGAIN'), 'DNS did not answer for db.example']
  ] satisfies [LookupFunction, string][]) {
    await t.rejects(reach(address, { timeoutMs: 100, lookup }), { message })
  }
})

t.test('a name that resolves to a port where nothing listens is blamed on the engine', async (t) => {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo // It listens on TCP, not on a socket file.
  await t.resolves(reach({ host: 'localhost', port }, { timeoutMs: 2000 }))
  server.close()
  await once(server, 'close')
  await t.rejects(reach({ host: '127.0.0.1', port }, { timeoutMs: 2000 }), { code: 'ECONNREFUSED' })
})
