import { spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { createDatabase } from '../helpers/database.ts'
import { waitUntil } from '../helpers/raw.ts'
import {
  alice,
  ask,
  chat,
  externalEngines,
  failedStart,
  folder,
  pathWith,
  processesWith,
  startServer,
  withoutRedis
} from '../helpers/server.ts'

t.test('a DATA_DIR that cannot be used ends the start with one sentence', async (t) => {
  const home = folder(t)
  const file = join(home, 'file')
  writeFileSync(file, '')
  const link = join(home, 'link')
  symlinkSync(join(home, 'nowhere', 'else'), link)
  for (const DATA_DIR of [file, join(file, 'data'), '/dev/null/data', link]) {
    t.equal(
      await failedStart(t, { DATA_DIR }),
      `DATA_DIR cannot be used, because ${DATA_DIR} is not a folder: set it to another one`
    )
  }
  t.equal(
    await failedStart(t, { DATA_DIR: '/proc/data' }),
    'DATA_DIR cannot be used, because no folder can be made in /proc: set it to another one'
  )
  t.strictSame(readdirSync(home).sort(), ['file', 'link'])
  t.equal(statSync(file).size, 0)
})

t.test('a start that cannot write one of its files leaves no process behind', async (t) => {
  const withRedis = process.env['PATH'] ?? ''
  const POSTGRES_DB = await createDatabase(t)
  for (const [file, PATH] of [
    ['redis.port', withRedis],
    ['redis.log', withRedis],
    ['redis.port', pathWith(t, withoutRedis)],
    ['sessions.journal.new', pathWith(t, withoutRedis)]
  ] as const) {
    const DATA_DIR = folder(t)
    mkdirSync(join(DATA_DIR, file))
    t.match(
      await failedStart(t, { ...externalEngines(), POSTGRES_DB, REDIS_HOST: '', DATA_DIR, PATH }),
      /^DATA_DIR cannot be used, because EISDIR: /,
      file
    )
    t.strictSame(processesWith(DATA_DIR), [])
  }
})

t.test('a damaged line in the journal of sessions costs no more than its own session', async (t) => {
  const DATA_DIR = folder(t)
  const journal = join(DATA_DIR, 'sessions.journal')
  const env = {
    ...externalEngines(),
    POSTGRES_DB: await createDatabase(t),
    REDIS_HOST: '',
    DATA_DIR,
    PATH: pathWith(t, withoutRedis)
  }
  const first = startServer(t, env)
  const texts: string[] = []
  const token = await chat(t, await first.ready, undefined, texts)
  first.child.kill('SIGKILL')
  await first.exited
  const [entry = ''] = readFileSync(journal, 'utf8').split('\n')
  for (const damage of [entry.slice(0, 40) + entry, '\0'.repeat(50), '', '/w9JAg=='] /* the number 1 */) {
    writeFileSync(journal, `${damage}\n${readFileSync(journal, 'utf8')}`)
  }

  const again = startServer(t, env)
  await chat(t, await again.ready, token, texts)
  t.strictSame(
    again.log.filter((line) => line.includes('damaged')),
    [`4 damaged line(s) of ${journal} were skipped, so some users may have to log in again`]
  )
  again.child.kill('SIGKILL')
  await again.exited
  const mended = startServer(t, env)
  await chat(t, await mended.ready, token, texts)
  t.notMatch(mended.log.join('\n'), 'damaged', 'which the start has mended')
})

if (process.getuid?.() === 0) {
  t.test('the store in this process survives a crash after a moment of full disk', async (t) => {
    const disk = folder(t)
    const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=512k,mode=755', 'none', disk])
    t.equal(mounted.status, 0)
    t.teardown(() => spawnSync('umount', [disk]))
    const env = {
      ...externalEngines(),
      POSTGRES_DB: await createDatabase(t),
      REDIS_HOST: '',
      DATA_DIR: join(disk, 'data'),
      PATH: pathWith(t, withoutRedis),
      RATE_LIMIT: 'off'
    }
    const first = startServer(t, env)
    const texts: string[] = []
    await chat(t, await first.ready, undefined, texts)
    const logIn = async () => ask(await first.ready, '/api/login', undefined, alice)
    const filler = join(disk, 'full')
    spawnSync('dd', ['if=/dev/zero', `of=${filler}`, 'bs=1k'])
    let refused = 0
    // The disk gives whole pages, so the last page of the journal may have room for a session.
    await waitUntil('a session finds no room', async () => {
      const { status } = await logIn()
      if (status !== 200) refused = status
      return refused > 0
    })
    t.equal(refused, 503)
    rmSync(filler)
    await waitUntil(
      'there is room again',
      async () => (await ask(await first.ready, '/health/readyz')).status === 200
    )
    const { status, body } = await logIn()
    t.equal(status, 200)
    first.child.kill('SIGKILL')
    await first.exited

    const again = startServer(t, env)
    await chat(t, await again.ready, body.token, texts)
    t.notMatch(again.log.join('\n'), 'damaged', 'without a damaged line')
  })

  t.test('a DATA_DIR of another user is named, with the user who may not write there', async (t) => {
    const home = folder(t, 0o755)
    const theirs = join(home, 'data')
    const texts: string[] = []
    const first = startServer(t, { DATA_DIR: theirs })
    const token = await chat(t, await first.ready, undefined, texts)
    first.child.kill('SIGTERM')
    await first.exited
    t.equal(
      await failedStart(t, { DATA_DIR: theirs }, { uid: 1 }),
      `DATA_DIR cannot be used, because ${theirs} belongs to uid 0 and this is uid 1: start as that user, or set it to another folder`
    )
    t.equal(
      await failedStart(t, { DATA_DIR: join(home, 'new') }, { uid: 1 }),
      `DATA_DIR cannot be used, because uid 1 may not write to ${home}: set it to another folder`
    )
    await chat(t, await startServer(t, { DATA_DIR: theirs }).ready, token, texts)
  })

  t.test('a full disk', async (t) => {
    const disk = folder(t)
    const mount = (size: string) =>
      t.equal(spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${size},mode=755`, 'none', disk]).status, 0)
    const unmount = () => spawnSync('umount', [disk])
    t.teardown(unmount)
    const DATA_DIR = join(disk, 'data')

    mount('4k')
    writeFileSync(join(disk, 'full'), 'x'.repeat(4096))
    t.equal(
      await failedStart(t, { DATA_DIR }),
      `DATA_DIR cannot be used, because the disk of ${DATA_DIR} is full: free some space there, or set it to another folder`
    )
    t.strictSame(readdirSync(disk), ['full'])
    unmount()

    mount('10m')
    t.match(
      await failedStart(t, { DATA_DIR }),
      /^the embedded PostgreSQL could not be created: .*No space left on device$/
    )
    t.strictSame(readdirSync(disk), [])
    unmount()

    mount('150m')
    const texts: string[] = []
    const first = startServer(t, { DATA_DIR })
    const token = await chat(t, await first.ready, undefined, texts)
    first.child.kill('SIGTERM')
    await first.exited
    spawnSync('dd', ['if=/dev/zero', `of=${disk}/full`, 'bs=4k'])
    t.match(
      await failedStart(t, { DATA_DIR }),
      /^(the embedded (PostgreSQL|redis-server) did not start: .*No space left on device|DATA_DIR cannot be used, because the disk of .* is full: )/
    )
    rmSync(join(disk, 'full'))
    const again = startServer(t, { DATA_DIR })
    await chat(t, await again.ready, token, texts)
    again.child.kill('SIGTERM')
    await again.exited
  })
}
