import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { checkout, withoutExit } from './server.ts'

export interface Result {
  code: number
  stdout: string
  stderr: string
}

/** Runs the built `admin` CLI in a process of its own, as `npm run admin` does. */
export async function runAdmin(env: Record<string, string>, args: string[]): Promise<Result> {
  // Through `env`, because tap adds its instruments to every Node process that a test starts.
  const child = spawn(
    '/usr/bin/env',
    ['-u', 'NODE_OPTIONS', process.execPath, ...withoutExit, join(checkout, 'dist/src/admin.js'), ...args],
    { env: { PATH: process.env['PATH'], BCRYPT_COST: '4', ...env }, stdio: ['ignore', 'pipe', 'pipe'] }
  )
  const [stdout, stderr, [code]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, 'exit')
  ])
  return { code, stdout: stdout.trimEnd(), stderr: stderr.trimEnd() }
}
