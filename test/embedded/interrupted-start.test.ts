import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { waitUntil } from '../helpers/raw.ts'
import {
  endsPromptly,
  folder,
  pathWith,
  processesWith,
  startServer,
  withoutRedis
} from '../helpers/server.ts'

t.test('an interrupted first start leaves nothing behind, whatever it was doing', async (t) => {
  const PATH = pathWith(t, withoutRedis)
  const start = (PATH: string) => {
    const home = folder(t)
    const DATA_DIR = join(home, 'deep/data')
    return { home, DATA_DIR, server: startServer(t, { DATA_DIR, PATH }) }
  }
  for (const [made, signal] of [
    ['password', 'SIGTERM'],
    ['postgres.new/base', 'SIGINT'],
    ['postgres.log', 'SIGTERM'],
    ['sessions.journal', 'SIGINT']
  ] as const) {
    const { home, DATA_DIR, server } = start(PATH)
    await waitUntil(`${made} is there`, () => existsSync(join(DATA_DIR, made)), 60_000)
    await endsPromptly(t, server, signal)
    t.strictSame(readdirSync(home), [], `although it had made ${made}`)
    t.strictSame(processesWith(DATA_DIR), [])
  }

  const whole = start(process.env['PATH'] ?? '')
  const since = performance.now()
  await whole.server.ready
  const startMs = performance.now() - since
  for (let moment = 0; moment < 8; moment++) {
    const { home, DATA_DIR, server } = start(process.env['PATH'] ?? '')
    await sleep((moment / 7) * startMs)
    server.child.kill('SIGTERM')
    const how = await server.exited
    // The signal itself ends it before the first of its code has run.
    t.ok(
      how === 0 || (how === 'SIGTERM' && server.log.length === 0),
      `${how} after ${server.log.length} lines`
    )
    const isReady = server.log.some((line) => line.startsWith('the chat is ready'))
    t.strictSame(readdirSync(home), isReady ? ['deep'] : [])
    t.strictSame(processesWith(DATA_DIR), [])
  }
})
