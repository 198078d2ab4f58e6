import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { TSchema } from '@sinclair/typebox'
import t from 'tap'
import { Config } from '../src/config.ts'
import { startService } from './helpers/app.ts'

const root = fileURLToPath(new URL('..', import.meta.url))
const read = (path: string) => readFileSync(join(root, path), 'utf8')
const pages = [
  'README.md',
  'CONTRIBUTING.md',
  'SECURITY.md',
  'client/README.md',
  ...readdirSync(join(root, 'docs'))
    .filter((name) => name.endsWith('.md'))
    .map((name) => `docs/${name}`)
]
const rows = (page: string) =>
  read(page)
    .split('\n')
    .filter((line) => line.startsWith('| `'))
const anchors = (page: string) =>
  [...read(page).matchAll(/^#+ (.+)$/gm)].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replace(/[^\w\- ]/g, '')
      .replaceAll(' ', '-')
  )

t.test('prose has at most 110 columns, as code does', async (t) => {
  for (const page of [...pages, 'CHANGELOG.md', 'CODE_OF_CONDUCT.md']) {
    const prose = read(page).replaceAll(/^```.*?^```/gms, '')
    const long = prose.split('\n').filter((line) => line.length > 110 && !/^(\||<img |!\[)/.test(line))
    t.strictSame(long, [], page)
  }
})

t.test('every table has its heading, and no line breaks it in two', async (t) => {
  for (const page of pages) {
    const tables = read(page)
      .replaceAll(/^```.*?^```/gms, '')
      .matchAll(/(?<=^|\n)(\|.*\n)+/g)
    for (const [table] of tables) {
      t.match(table.split('\n')[1], /^\|( ---:? \|)+$/, `${page}: ${table.slice(0, 60)}`)
    }
  }
})

t.test('docs/api.md sorts the errors by status and code', async (t) => {
  const errors = [...read('docs/api.md').matchAll(/^\| (\d{3}) \| `(\w+)` \|/gm)].map(
    ([, status, code]) => `${status} ${code}`
  )
  t.ok(errors.length > 80)
  t.strictSame(errors, errors.toSorted())
})

t.test('docs/configuration.md documents every variable with its default, and no other', async (t) => {
  const variables = rows('docs/configuration.md')
  for (const [name, { default: value }] of Object.entries<TSchema>(Config.properties)) {
    const start = `| \`${name}\` | ${value === undefined ? '' : `\`${value}\` `}|`
    t.ok(
      variables.some((row) => row.startsWith(start)),
      start
    )
  }
  t.equal(variables.length, Object.keys(Config.properties).length)
})

t.test('docs/api.md documents every route, and no other', async (t) => {
  const { call } = await startService(t, { MAX_STREAMS: 0 }) // so that a stream ends
  const documented = rows('docs/api.md')
    .filter((row) => /^\| `[A-Z]+ \//.test(row))
    .map((row) => row.split('`')[1] ?? '')
  for (const route of documented) {
    const [method = '', path = ''] = route.split(' ')
    const { status, body } = await call(method, path.replace(':id', '1'))
    t.notOk(status === 405 || body?.code === 'not_found', route)
  }
  const { body } = await call('GET', '/api/openapi.json')
  const described = Object.entries<object>(body.paths).flatMap(([path, operations]) =>
    Object.keys(operations).map((method) => `${method.toUpperCase()} ${path.replaceAll(/\{(\w+)\}/g, ':$1')}`)
  )
  t.strictSame(documented.filter((route) => route !== 'GET /').sort(), described.sort())
})

t.test('every `npm run …` in the pages is a script', async (t) => {
  const { scripts } = JSON.parse(read('package.json'))
  for (const page of pages) {
    for (const [, name = ''] of read(page).matchAll(/npm run ([\w:-]+)/g)) {
      t.ok(scripts[name], `${page}: ${name}`)
    }
  }
})

t.test('every file that the pages mention exists', async (t) => {
  for (const page of pages) {
    for (const [, path = ''] of read(page).matchAll(/`((?:test|src|schemas|\.ci|web|helm)\/[\w./-]*)`/g)) {
      t.ok(existsSync(join(root, path)), `${page}: ${path}`)
    }
  }
})

t.test('the runbook has one heading for each alert of the chart, and no others', async (t) => {
  const chart = 'helm/chat-backend'
  const alerts = readdirSync(join(root, chart), { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.yaml'))
    .flatMap((path) =>
      [...read(`${chart}/${path}`).matchAll(/^ *- alert: (\w+)$/gm)].map(([, name = '']) => name)
    )
  const runbook = read('docs/runbook.md')
  t.strictSame(
    [...runbook.matchAll(/^## (.+)$/gm)].map(([, name]) => name).sort(),
    [...new Set(alerts)].sort()
  )
})

t.test('links between the pages lead somewhere', async (t) => {
  for (const page of pages) {
    for (const [, link = ''] of read(page).matchAll(/(?:\]\(|<img src=")(?!https?:)([^)"]+)[)"]/g)) {
      const [path, anchor] = link.split('#')
      const target = path ? join(page, '..', path) : page
      if (anchor === undefined) t.ok(existsSync(join(root, target)), `${page}: ${link}`)
      else t.ok(anchors(target).includes(anchor), `${page}: ${link}`)
    }
  }
})

t.test('the five functions that docs/architecture.md says to read exist', async (t) => {
  const links = /^\d\. \[`(?:\w+\.)?(#?\w+)`\]\(\.\.\/(src\/[^)]+)\)/gm
  const steps = [...read('docs/architecture.md').matchAll(links)]
  t.equal(steps.length, 5)
  for (const [, name = '', path = ''] of steps) {
    const definition = new RegExp(`^(?:const |  (?:async )?)${name}\\b[^\\n]*[{(=]`, 'm')
    t.match(read(path), definition, `${name} in ${path}`)
  }
})
