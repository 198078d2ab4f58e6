import t from 'tap'
import { startService } from '../helpers/app.ts'
import { connect } from '../helpers/database.ts'
import { readBlackout, sabotage } from './blackout.ts'
import type { Blackout } from './checker.ts'

// What the proof believes of a time in which changes did not reach the log.

t.test('a message that came in one blackout and went in another', async (t) => {
  const { database, register } = await startService(t)
  const { userId } = await register()
  const client = await connect(t, database)
  const insert = async (text: string) => {
    const { rows } = await client.query(
      'insert into chat_message (user_id, text, created_at) values ($1, $2, now()) returning id::float8 as id',
      [userId, text]
    )
    return rows[0].id as number
  }
  const remove = (id: number) => client.query('delete from chat_message where id = $1', [id])
  const blackouts: Blackout[] = []
  const blackOut = async (trigger: string, change: () => Promise<unknown>) => {
    const from = await sabotage(client, `drop trigger ${trigger} on chat_message`)
    await change()
    const repairing = await startService(t, { POSTGRES_DB: database })
    await repairing.app.close()
    blackouts.push(await readBlackout(client, from, blackouts))
  }

  const logged = await insert('logged')
  let [unlogged, brief] = [0, 0]
  await blackOut('chat_event_created', async () => {
    unlogged = await insert('not logged')
    brief = await insert('gone before the next blackout')
  })
  await remove(brief)
  await blackOut('chat_event_deleted', async () => {
    await remove(logged)
    await remove(unlogged)
  })
  await blackOut('chat_event_deleted', async () => {})

  const [first, second, third] = blackouts
  t.strictSame([first?.created, first?.deleted], [[unlogged, brief], []])
  t.strictSame(second?.deleted.sort(), [logged, unlogged], 'both deletions that no entry tells of')
  t.ok(first!.to < second!.to && second!.to < third!.to, 'each ends with a reset of its own')
})
