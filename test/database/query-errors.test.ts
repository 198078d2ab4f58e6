import pg from 'pg'
import t from 'tap'
import { createPipeline, createPoolQuery, createQuery, PoolConnections } from '../../src/database/query.ts'
import { connectionOptions } from '../../src/plugins/postgres.ts'
import { config } from '../helpers/database.ts'

const DIVIDE = 'select 1 / $1::int as n'

t.test('the stack of a failed statement shows its caller', async (t) => {
  const pool = new pg.Pool({ ...connectionOptions(config), pipeline: true })
  t.teardown(() => pool.end())
  const connections = new PoolConnections(pool)
  const query = createQuery(pool)
  const poolQuery = createPoolQuery(connections)
  const pipeline = createPipeline(connections)
  const senders: Record<string, () => Promise<unknown>> = {
    async byQuery() {
      await query(DIVIDE, [0])
    },
    async byPoolQuery() {
      await poolQuery(DIVIDE, [0])
    },
    async byPipeline() {
      await pipeline([DIVIDE, [0]], [DIVIDE, [1]])
    }
  }
  for (const [name, send] of Object.entries(senders)) {
    const error = await send().then(
      () => undefined,
      (error: Error) => error
    )
    t.match(error, { message: 'division by zero', code: '22012' })
    t.match(error?.stack, new RegExp(`at async (Object\\.)?${name} `))
  }
})
