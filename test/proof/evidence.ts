import { check, type Poller, type Stream, type Written } from './checker.ts'
import type { Postgres } from './cluster.ts'
import type { World } from './world.ts'

const CATCH_UP_MS = 5000
/** Of everybody who takes part. */
export const PASSWORD = 'correct horse'

/** Registers a user. @returns the id and a session token */
export async function register(world: World, nickname: string): Promise<{ userId: number; token: string }> {
  const answer = await world.ask(world.urls[0]!, {
    method: 'POST',
    path: '/api/register',
    body: { nickname, password: PASSWORD }
  })
  if (answer?.status !== 201) throw new Error(`no registration: ${JSON.stringify(answer?.body)}`)
  return answer.body as { userId: number; token: string }
}

/**
 * Waits until the readers have seen all that was written, ends the run, and holds what everybody saw against
 * what the database says.
 */
export async function judge(
  world: World,
  database: Postgres,
  written: Written[],
  pollers: Poller[],
  streams: Stream[],
  reading: Promise<unknown>
): Promise<void> {
  world.cutting = false
  const end = await database.connect()
  const { rows: table } = await end.query<{ id: number; text: string }>(
    'select id::float8 as id, text from chat_message order by id'
  )
  const { rows: log } = await end.query<{ seq: number; kind: string; id: number }>(
    'select seq::float8 as seq, kind, message_id::float8 as id from chat_event order by seq'
  )
  await end.end()
  const behind = () => [
    ...pollers.filter(({ seen }) => (seen.at(-1)?.id ?? 0) < (table.at(-1)?.id ?? 0)),
    ...streams.filter(
      ({ sessions }) =>
        (sessions.at(-1)?.events.at(-1)?.seq ?? sessions.at(-1)?.since ?? -1) < (log.at(-1)?.seq ?? 0)
    )
  ]
  for (const deadline = Date.now() + CATCH_UP_MS; behind().length > 0 && Date.now() < deadline;) {
    await world.sleep(100)
  }
  for (const { name } of behind()) {
    world.find('stuck', `${name} did not see the last of it within ${CATCH_UP_MS / 1000} s`)
  }
  await world.sleep(1000) // for what comes twice
  world.ended.abort()
  await reading
  const { silences, blackouts } = world
  world.findings.push(...check({ table, log, written, pollers, streams, silences, blackouts }))
  world.count('messages at the end', table.length)
  world.count('rows of the log', log.length)
}

const EXAMPLES = 5

/** Prints what was counted and found. @returns whether there is nothing to complain about */
export function report({ tally, findings }: World, proven: string): boolean {
  for (const [what, times] of [...tally].sort()) console.log(`${what.padEnd(34)}${`${times}`.padStart(9)}`)
  const kinds = [...new Set(findings.map(({ kind }) => kind))].map((kind) =>
    findings.filter((finding) => finding.kind === kind)
  )
  for (const found of kinds) {
    for (const { kind, what } of found.slice(0, EXAMPLES)) console.log(`${kind}: ${what}`)
  }
  if (kinds.length === 0) console.log(`PROVEN: ${proven}`)
  else console.log(`FAILED: ${kinds.map((found) => `${found[0]?.kind} ${found.length}`).join(', ')}`)
  return kinds.length === 0
}
