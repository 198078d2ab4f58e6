import { spawnSync } from 'node:child_process'
import { readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import {
  ask,
  chat,
  folder,
  isOpen,
  pathWith,
  portClosed,
  startServer,
  withoutRedis
} from '../helpers/server.ts'

const isRoot = process.getuid?.() === 0
const hasRedis = spawnSync('redis-server', ['--version']).status === 0

for (const [store, path] of [
  ...(hasRedis ? [['redis-server', process.env['PATH']!]] : []),
  ['the store in this process', undefined]
] as [string, string | undefined][]) {
  t.test(
    `embedded engines with ${store}: everything survives Ctrl-C, kill -9 and a restart, and no process stays`,
    async (t) => {
      const env = {
        DATA_DIR: join(folder(t), 'deep/my "data" \\ \'é\''),
        PATH: path ?? pathWith(t, withoutRedis)
      }
      const texts: string[] = []

      const first = startServer(t, env)
      const token = await chat(t, await first.ready, undefined, texts)
      const { body: bob } = await ask(await first.ready, '/api/register', undefined, {
        nickname: 'bob',
        password: 'correct horse'
      })
      await ask(await first.ready, '/api/logout', bob.token, {})
      t.equal(first.enginePorts().length, 2, 'the log tells what runs where')
      for (const port of first.enginePorts()) {
        t.equal(await isOpen(port), true)
        // What listens on every address of the machine listens on this one too.
        t.equal(await isOpen(port, '127.0.0.2'), false, 'on 127.0.0.1 and nowhere else')
      }
      process.kill(-first.child.pid!, 'SIGINT')
      t.equal(await first.exited, 0, 'Ctrl-C ends it in order')
      t.match(first.log.at(-1), /^shutting down after SIGINT$/, 'and quietly')
      await Promise.all(first.enginePorts().map(portClosed))

      const second = startServer(t, env)
      await chat(t, await second.ready, token, texts)
      second.child.kill('SIGKILL')
      t.equal(await second.exited, 'SIGKILL')

      const third = startServer(t, env)
      await chat(t, await third.ready, token, texts)
      t.match(
        await ask(await third.ready, '/api/messages', bob.token, { text: 'boo' }),
        { status: 401, body: { error: 'session not found' } },
        'who logged out stays out'
      )
      // The engines of a service that was killed end by themselves.
      await Promise.all(second.enginePorts().map(portClosed))
      third.child.kill('SIGTERM')
      t.equal(await third.exited, 0)
    }
  )
}

t.test('it restarts after a kill even if another program has the pid of PostgreSQL', async (t) => {
  const DATA_DIR = folder(t)
  const otherFolder = folder(t)
  const other = startServer(t, { DATA_DIR: otherFolder })
  await other.ready
  const otherPid = parseInt(readFileSync(join(otherFolder, 'postgres/postmaster.pid'), 'utf8'))
  const pidFile = join(DATA_DIR, 'postgres/postmaster.pid')
  const first = startServer(t, { DATA_DIR })
  const texts: string[] = []
  const token = await chat(t, await first.ready, undefined, texts)
  const left = readFileSync(pidFile, 'utf8')
  first.child.kill('SIGTERM')
  await first.exited
  for (const pid of [process.pid, otherPid]) {
    writeFileSync(pidFile, left.replace(/^\d+/, `${pid}`))
    const next = startServer(t, { DATA_DIR })
    await chat(t, await next.ready, token, texts)
    next.child.kill('SIGTERM')
    await next.exited
  }
})

t.test('a second start on the same data fails with one sentence, and the first keeps running', async (t) => {
  const DATA_DIR = folder(t)
  const first = startServer(t, { DATA_DIR })
  const url = await first.ready
  const second = startServer(t, { DATA_DIR })
  t.equal(await second.exited, 1)
  t.strictSame(second.log, [
    `another chat-backend is using the data in ${DATA_DIR}: stop it, or set DATA_DIR to another folder`
  ])
  await chat(t, url, undefined, [])
})

if (isRoot) {
  for (const [who, uid] of [
    ['an ordinary user', 1],
    ['a user whom the machine does not know', 12345]
  ] as const) {
    t.test(`it works as ${who}, below a 0700 home`, async (t) => {
      const home = folder(t, 0o700, uid)
      const server = startServer(t, { DATA_DIR: join(home, 'data') }, { uid })
      await chat(t, await server.ready, undefined, [])
      t.equal(statSync(join(home, 'data/postgres')).uid, uid)
    })
  }

  t.test("it works as root below a 0700 home, and the files stay root's", async (t) => {
    const DATA_DIR = join(folder(t, 0o700), 'data')
    const server = startServer(t, { DATA_DIR })
    await chat(t, await server.ready, undefined, [])
    t.equal(statSync(join(DATA_DIR, 'postgres')).uid, 0)
  })

  t.test('it works as root where the kernel allows no user namespace', async (t) => {
    const PATH = pathWith(t, { ...withoutRedis, unshare: false })
    const DATA_DIR = join(folder(t), 'data')
    const server = startServer(t, { DATA_DIR, PATH }, { reader: 65534 })
    await chat(t, await server.ready, undefined, [])
    server.child.kill('SIGKILL')
    await server.exited
    const again = startServer(t, { DATA_DIR, PATH }, { reader: 65534 })
    t.equal((await ask(await again.ready, '/api/messages')).body.length, 1)
  })
}
