import { writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { parseArgs } from 'node:util'
import { fleet } from './bench/fleet.ts'
import { growth } from './bench/growth.ts'
import { logins } from './bench/logins.ts'
import { leaveFirstCore } from './bench/processes.ts'
import { replicas } from './bench/replicas.ts'
import { draw, type Figure, hasBudget, isMissed, printFigures, printRows, type Row } from './bench/report.ts'
import { against, requests } from './bench/requests.ts'
import { search } from './bench/search.ts'
import { start } from './bench/start.ts'
import { streams } from './bench/streams.ts'
import { waiters } from './bench/waiters.ts'
import { withWorld, type World } from './bench/world.ts'
import { runCommand, whole } from './command.ts'

// `npm run bench`: the service beside what no service can do better (a bare Fastify route, Node alone) and
// beside what most people would write, in one run, by turns, on engines of its own. Medians; CPU as the
// operating system counts it.

interface Arguments {
  rounds: number
  seconds: number
  only: string
  most: number
  json: string | undefined
  svg: string | undefined
  against: string | undefined
  chosen: string[]
}

const BUDGETS: {
  scenario: string
  rival: string
  ratio: keyof Row['ratios']
  name: string
  atMost?: number
  atLeast?: number
}[] = [
  { scenario: 'page of 50', rival: 'bare', ratio: 'service', name: 'CPU', atMost: 1.15 },
  { scenario: 'page of 50', rival: 'naive', ratio: 'perSecond', name: 'requests/s', atLeast: 8 },
  { scenario: 'empty poll', rival: 'bare', ratio: 'service', name: 'CPU', atMost: 1.15 },
  { scenario: 'post, 16 connections', rival: 'naive', ratio: 'perSecond', name: 'requests/s', atLeast: 2.2 },
  { scenario: 'post, 64 connections', rival: 'naive', ratio: 'perSecond', name: 'requests/s', atLeast: 3 },
  { scenario: 'post, 256 connections', rival: 'naive', ratio: 'perSecond', name: 'requests/s', atLeast: 6 },
  { scenario: 'post, 64 connections', rival: 'naive', ratio: 'total', name: 'CPU of all', atMost: 0.25 },
  { scenario: 'post, 1 connection', rival: 'naive', ratio: 'p50', name: 'p50', atMost: 0.7 }
]

const requestFigures = (rows: Row[]): Figure[] =>
  BUDGETS.flatMap(({ scenario, rival, ratio, name, ...budget }) =>
    rows
      .filter((row) => row.scenario === scenario && row.rival === rival)
      .map(({ ratios }) => ({
        what: `${scenario}: ${name} against ${rival}`,
        value: ratios[ratio],
        ...budget
      }))
  )

interface Found {
  rows?: Row[]
  figures: Figure[]
}
type Group = (world: World, given: Arguments) => Promise<Found>
const figuresOf =
  (group: (world: World, given: Arguments) => Promise<Figure[]>): Group =>
  async (world, given) => {
    const figures = await group(world, given)
    printFigures(figures)
    return { figures }
  }
const GROUPS: Record<string, Group> = {
  requests: async (world, given) => {
    const { rows, mib } = await requests(world, given)
    printRows(rows)
    const memory = { what: 'memory of the service after all requests', value: mib, unit: 'MiB', atMost: 160 }
    return { rows, figures: [...requestFigures(rows), memory] }
  },
  streams: figuresOf(streams),
  waiters: figuresOf(waiters),
  logins: figuresOf(logins),
  growth: async (world, given) => {
    const { rows, largest, than } = await growth(world, given)
    printRows(rows, largest)
    return {
      rows,
      figures: rows
        .filter(({ rival }) => rival === than)
        .map(({ scenario, ratios }) => ({
          what: `${scenario}: CPU of all, ${largest} against ${than}`,
          value: ratios.total,
          atMost: 1.2
        }))
    }
  },
  search: figuresOf(search),
  start: figuresOf(start),
  replicas: figuresOf(replicas),
  fleet: figuresOf(fleet)
}

const names = Object.keys(GROUPS)
const USAGE = `npm run bench -- [--rounds 7] [--seconds 2] [--only TEXT] [--rows 10000000] [--json FILE] [--svg FILE] [--against URL] [${names.join(' | ')}] ...`

function readArguments(): Arguments {
  const {
    values: { rounds, seconds, only, rows, json, svg, against },
    positionals
  } = parseArgs({
    allowPositionals: true,
    options: {
      rounds: { type: 'string', default: '7' },
      seconds: { type: 'string', default: '2' },
      only: { type: 'string', default: '' },
      rows: { type: 'string', default: '10000000' },
      json: { type: 'string' },
      svg: { type: 'string' },
      against: { type: 'string' }
    }
  })
  const unknown = positionals.find((name) => !names.includes(name))
  if (unknown !== undefined) throw new Error(`There is no group ${JSON.stringify(unknown)}.`)
  return {
    rounds: whole('rounds', rounds, 100),
    seconds: whole('seconds', seconds, 60),
    only,
    most: whole('rows', rows, 1e7),
    json,
    svg,
    against,
    chosen: positionals.length > 0 ? positionals : against === undefined ? names : []
  }
}

await runCommand(USAGE, readArguments, async (given, signal) => {
  const about = `${cpus().length} cores (${cpus()[0]?.model}); Node ${process.versions.node}; ${leaveFirstCore()}`
  console.log(about)
  const rows: Row[] = []
  const figures: Figure[] = []
  for (const name of given.chosen) {
    console.log(`\n## ${name}\n`)
    const found = await withWorld(signal, (world) => GROUPS[name]!(world, given))
    rows.push(...(found.rows ?? []))
    figures.push(...found.figures)
  }
  if (given.against !== undefined) {
    const { against: peer } = given
    console.log(`\n## against ${peer}\n`)
    const found = await withWorld(signal, (world) => against(world, given, peer))
    printRows(found)
    rows.push(...found)
  }
  console.log(`\n## budgets: ${figures.filter(isMissed).length} missed\n`)
  printFigures(figures.filter(hasBudget))
  if (given.json !== undefined) {
    writeFileSync(given.json, `${JSON.stringify({ about, ...given, rows, figures }, null, 2)}\n`)
  }
  if (given.svg !== undefined && rows.length > 0) {
    writeFileSync(given.svg, draw(rows, `CPU of each request in µs. ${about}`))
  }
  return true
})
