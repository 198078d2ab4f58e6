import { Socket } from 'node:net'
import pg from 'pg'
import t from 'tap'
import { createPipeline, PoolConnections } from '../../src/database/query.ts'
import { connectionOptions } from '../../src/plugins/postgres.ts'
import { config } from '../helpers/database.ts'

/** Counts how often it is written to the network. */
class CountingSocket extends Socket {
  count = 0

  override _write(...args: Parameters<Socket['_write']>): void {
    this.count++
    super._write(...args)
  }

  override _writev(...args: Parameters<NonNullable<Socket['_writev']>>): void {
    this.count++
    super._writev?.(...args)
  }
}

t.test('the two statements of a pipeline leave in one write', async (t) => {
  const socket = new CountingSocket()
  const options = connectionOptions(config)
  const pool = new pg.Pool({ ...options, pipeline: true, max: 1, stream: () => socket })
  t.teardown(() => pool.end())
  const pipeline = createPipeline(new PoolConnections(pool))
  const run = () => pipeline(['select $1::int as n', [1]], ['select $1::text as word', ['two']])
  await run() // connects
  const before = socket.count
  t.strictSame(await run(), [[{ n: 1 }], { status: 'fulfilled', value: [{ word: 'two' }] }])
  t.equal(socket.count - before, 1)
})
