import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'

const root = fileURLToPath(new URL('..', import.meta.url))
const read = (path: string) => readFileSync(join(root, path), 'utf8')
const pages = [
  'README.md',
  'SECURITY.md',
  ...readdirSync(join(root, 'docs'))
    .filter((name) => name.endsWith('.md'))
    .map((name) => `docs/${name}`)
]
const anchors = (page: string) =>
  [...read(page).matchAll(/^#+ (.+)$/gm)].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replace(/[^\w\- ]/g, '')
      .replaceAll(' ', '-')
  )

t.test('every alert of the chart has its heading in the runbook, and no other is there', async (t) => {
  const chart = 'helm/chat-backend'
  const alerts = readdirSync(join(root, chart), { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.yaml'))
    .flatMap((path) =>
      [...read(`${chart}/${path}`).matchAll(/^ *- alert: (\w+)$/gm)].map(([, name = '']) => name)
    )
  const runbook = read('docs/operations.md').split('\n## Runbook\n')[1] ?? ''
  t.strictSame(
    [...runbook.matchAll(/^### (.+)$/gm)].map(([, name]) => name).sort(),
    [...new Set(alerts)].sort()
  )
})

t.test('links between the pages lead somewhere', async (t) => {
  for (const page of pages) {
    for (const [, link = ''] of read(page).matchAll(/\]\((?!https?:)([^)]+)\)/g)) {
      const [path, anchor] = link.split('#')
      const target = path ? join(page, '..', path) : page
      if (anchor === undefined) t.ok(existsSync(join(root, target)), `${page}: ${link}`)
      else t.ok(anchors(target).includes(anchor), `${page}: ${link}`)
    }
  }
})
