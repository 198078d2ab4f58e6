import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { promisify } from 'node:util'
import t from 'tap'
import { startService } from './helpers/app.ts'

const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8')

t.test('the curl lines of the README register, log in, post and read', async (t) => {
  const { url } = await startService(t)
  const block = [...readme.matchAll(/```sh\n([^`]*)```/g)]
    .map(([, lines = '']) => lines)
    .find((lines) => lines.includes('curl'))
  const lines = (block ?? '').replaceAll('http://127.0.0.1:8080', url)
  t.equal(lines.match(/\bcurl /g)?.length, 4)
  const { stdout } = await promisify(execFile)('sh', ['-ec', lines])
  t.match(stdout, /"nickname":"alice","token":"[0-9a-f]{64}"/, 'the registration')
  t.match(stdout, /\[\{"id":\d+,"userId":\d+,"nickname":"alice","text":"hello",/, 'the page with the message')
})
