import { once } from 'node:events'
import { Attacker } from './attacker.ts'
import { rows } from './table.ts'

// The process of the attacker, so that what an attack costs its own side does not disturb those who measure.
// It says that it is there, attacks when it is told to, says what it found, and ends with all its connections
// when it is told to.

export interface Orders {
  url: string
  given: unknown
}

const row = rows.find(({ name }) => name === process.argv[2])
if (row === undefined) throw new Error(`no attack is named ${process.argv[2]}`)
process.send!('ready')
const [{ url, given }] = (await once(process, 'message')) as [Orders]
const found = await row.attack(new Attacker(url, row), given)
process.send!({ found: found ?? null })
await once(process, 'message')
process.exit()
