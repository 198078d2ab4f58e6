import { readFileSync } from 'node:fs'
import type { TSchema } from '@sinclair/typebox'
import t from 'tap'
import { Config } from '../src/config.ts'
import { startService } from './helpers/app.ts'

const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8')
const rows = readme.split('\n').filter((line) => line.startsWith('| `'))

t.test('the README documents every variable with its default, and no other', async (t) => {
  const variables = rows.filter((row) => /^\| `[A-Z_]+`/.test(row))
  for (const [name, { default: value }] of Object.entries<TSchema>(Config.properties)) {
    const start = `| \`${name}\` | ${value === undefined ? '' : `\`${value}\` `}|`
    t.ok(
      variables.some((row) => row.startsWith(start)),
      start
    )
  }
  t.equal(variables.length, Object.keys(Config.properties).length)
})

t.test('the README documents routes that are there', async (t) => {
  const { call } = await startService(t, { MAX_STREAMS: 0 }) // so that a stream ends
  const routes = rows.filter((row) => /^\| `[A-Z]+ \//.test(row)).map((row) => row.split('`')[1] ?? '')
  t.ok(routes.length > 18)
  for (const route of routes) {
    const [method = '', path = ''] = route.split(' ')
    const { status, body } = await call(method, path.replace(':id', '1'))
    t.notOk(status === 405 || body?.code === 'not_found', route)
  }
})
