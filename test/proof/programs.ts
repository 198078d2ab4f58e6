import pg from 'pg'
import { ROLLED_BACK, type Written } from './checker.ts'
import type { Random, World } from './world.ts'
import { wasLogged } from './writers.ts'

const INSERT =
  'insert into chat_message (user_id, text, created_at) select $1, text, now() from unnest($2::text[]) text returning id, text'
// The server goes down, or has become a standby.
const INTERRUPTED = /^(57|25006)/
const UPDATE =
  'update chat_message set text = new.text from unnest($1::bigint[], $2::text[]) new (id, text) where chat_message.id = new.id'

/** What a transaction has done so far, and what it makes of its writer's knowledge if it commits. */
interface Transaction {
  name: string
  userId: number
  client: pg.Client
  mark: string
  untouched: Written[]
  changes: (() => void)[]
  /** Whether all of it is in the event log. */
  isLogged: () => boolean
}

/** Transactions leave their names here, so that one whose COMMIT had no answer can be looked up. */
export const prepare = (client: pg.Client) =>
  client.query('create table proof_transaction (name text primary key)')

/**
 * A program with a connection of its own, as Django or psql: transactions of several slow statements, of
 * which half roll back.
 */
export async function program(
  world: World,
  name: string,
  connect: () => Promise<pg.Client>
): Promise<Written[]> {
  const random = world.random(name)
  const written: Written[] = []
  let mine: Written[] = []
  let client: pg.Client | undefined
  let userId: number | undefined

  const transact = async (transaction: Transaction, rollsBack: boolean): Promise<void> => {
    const { client, changes } = transaction
    await client.query('begin')
    await client.query('insert into proof_transaction values ($1)', [transaction.name])
    for (let left = random.between(1, 3); left > 0; left--) {
      const fresh = await step(transaction, random)
      changes.push(() => {
        written.push(...fresh)
        mine.push(...fresh)
      })
      if (random.chance(0.6)) await world.sleep(random.between(50, 130))
    }
    if (random.chance(0.1)) {
      await client.query('delete from chat_message where user_id = $1', [transaction.userId])
      await client.query('delete from chat_user where id = $1', [transaction.userId])
      changes.push(() => {
        for (const message of mine) message.final = undefined
        mine = []
        userId = undefined
        world.count('users deleted by SQL')
      })
    }
    await client.query(rollsBack ? 'rollback' : 'commit')
  }

  for (let n = 1; world.writing; n++) {
    const transaction = `${name}-${n}`
    const rollsBack = random.chance(0.5)
    const changes: (() => void)[] = []
    const changesBefore = world.blackoutChanges
    let committed = !rollsBack
    try {
      client ??= await connect()
      userId ??= Number(
        (
          await client.query(
            "insert into chat_user (nickname, password_hash, created_at) values ($1, '-', now()) returning id",
            [transaction]
          )
        ).rows[0].id
      )
      const alive = mine.filter(({ final }) => final !== undefined)
      await transact(
        {
          name: transaction,
          userId,
          client,
          mark: rollsBack ? ` ${ROLLED_BACK}` : '',
          untouched: random.shuffled(alive),
          changes,
          isLogged: () => wasLogged(world, changesBefore)
        },
        rollsBack
      )
    } catch (error) {
      if (error instanceof pg.DatabaseError && !INTERRUPTED.test(error.code ?? '')) {
        world.find('error', `${transaction}: ${error.message}`)
      }
      world.count('SQL transactions interrupted')
      await client?.end().catch(() => {})
      client = undefined
      committed &&= await isThere(transaction)
    }
    if (committed) for (const change of changes) change()
    world.count(committed ? 'SQL transactions committed' : 'SQL transactions rolled back')
    await world.sleep(random.between(200, 1000))
  }
  await client?.end().catch(() => {})
  return written

  async function isThere(name: string): Promise<boolean> {
    for (; !world.ended.signal.aborted; await world.sleep(100)) {
      const look = await connect().catch(() => undefined)
      const found = await look
        ?.query('select from proof_transaction where name = $1', [name])
        .catch(() => undefined)
        .finally(() => look.end())
      if (found) return found.rowCount === 1
    }
    return false
  }
}

/** Writes, edits or deletes one or several messages with one statement. @returns the new ones */
async function step(
  { name, userId, client, mark, untouched, changes, isLogged }: Transaction,
  random: Random
): Promise<Written[]> {
  const others = untouched.splice(0, random.chance(0.4) ? random.between(1, 3) : 0)
  const ids = others.map((message) => message.ids[0])
  if (others.length > 0 && random.chance(0.5)) {
    await client.query('delete from chat_message where id = any($1)', [ids])
    for (const message of others) {
      changes.push(() => {
        message.final = undefined
      })
    }
    return []
  }
  if (others.length > 0) {
    const texts = others.map((message) => `${message.name} edited by ${name}${mark}`)
    await client.query(UPDATE, [ids, texts])
    others.forEach((message, i) =>
      changes.push(() => {
        if (isLogged()) message.edits++
        message.final = texts[i]
      })
    )
    return []
  }
  const texts = Array.from(
    { length: random.chance(0.5) ? 1 : random.between(2, 6) },
    () => `${name}-${random.next().toString(36).slice(2)} by SQL${mark}`
  )
  const { rows } = random.chance(0.2)
    ? await copy(client, userId, texts)
    : await client.query(INSERT, [userId, texts])
  return rows.map(({ id, text }) => ({
    name: text.split(' ')[0],
    certain: true,
    ids: [Number(id)],
    news: 1,
    edits: 0,
    final: text
  }))
}

async function copy(client: pg.Client, userId: number, texts: string[]): Promise<pg.QueryResult> {
  const lines = texts.map((text) => `${userId} '${text}'`).join(' ')
  await client.query(
    `copy chat_message (user_id, text, created_at) from program $$printf '%s\\t%s\\tnow\\n' ${lines}$$`
  )
  return client.query('select id, text from chat_message where user_id = $1 and text = any($2)', [
    userId,
    texts
  ])
}
