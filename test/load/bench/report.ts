/**
 * What one rival did in one scenario: medians; times in milliseconds, CPU in microseconds for each request.
 */
export interface Row {
  scenario: string
  rival: string
  perSecond: number
  p50: number
  p99: number
  service: number
  postgres: number
  redis: number
  /** The value of what it is compared with (the service's) divided by this one's, within each round. */
  ratios: { perSecond: number; p50: number; service: number; total: number }
}

/** A figure beside what it should be. */
export interface Figure {
  what: string
  value: number
  unit?: string
  atMost?: number
  atLeast?: number
}

export function median(values: number[]): number {
  const sorted = values.toSorted((one, other) => one - other)
  const middle = (sorted.length - 1) / 2
  return ((sorted[Math.floor(middle)] ?? 0) + (sorted[Math.ceil(middle)] ?? 0)) / 2
}

export const isMissed = ({ value, atMost = Infinity, atLeast = -Infinity }: Figure) =>
  !(value <= atMost && value >= atLeast)

export const hasBudget = ({ atMost, atLeast }: Figure) => atMost !== undefined || atLeast !== undefined

function short(value: number): string {
  if (Number.isNaN(value)) return '–'
  if (value >= 1000) return Math.round(value).toLocaleString('en')
  if (value >= 100) return value.toFixed(0)
  return value >= 10 ? value.toFixed(1) : value.toFixed(2)
}

/** Prints a table, in Markdown. */
export function printTable(head: string[], rows: string[][]): void {
  const widths = head.map((title, i) => Math.max(title.length, ...rows.map((row) => row[i]?.length ?? 0)))
  const line = (row: string[]) =>
    `| ${row.map((cell, i) => (i < 2 && head[1] === 'of' ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0))).join(' | ')} |`
  console.log(
    [line(head), `| ${widths.map((width) => '-'.repeat(width)).join(' | ')} |`, ...rows.map(line)].join('\n')
  )
}

export const printRows = (rows: Row[], base = 'service') =>
  printTable(
    [
      'scenario',
      'of',
      'requests/s',
      'p50 ms',
      'p99 ms',
      'CPU µs',
      'PostgreSQL µs',
      'Redis µs',
      `${base}: requests/s`,
      `${base}: CPU`,
      `${base}: all CPU`
    ],
    rows.map((row) => [
      row.scenario,
      row.rival,
      short(row.perSecond),
      short(row.p50),
      short(row.p99),
      short(row.service),
      short(row.postgres),
      short(row.redis),
      ...(row.rival === base
        ? ['', '', '']
        : [
            `× ${short(row.ratios.perSecond)}`,
            `× ${short(row.ratios.service)}`,
            `× ${short(row.ratios.total)}`
          ])
    ])
  )

/** Prints the figures, those that miss their budget first. */
export function printFigures(figures: Figure[]): void {
  const budget = ({ atMost, atLeast }: Figure) =>
    atMost !== undefined ? `≤ ${short(atMost)}` : atLeast !== undefined ? `≥ ${short(atLeast)}` : ''
  printTable(
    ['figure', 'of', 'budget', ''],
    figures
      .toSorted((one, other) => Number(isMissed(other)) - Number(isMissed(one)))
      .map((figure) => [
        figure.what,
        `${short(figure.value)}${figure.unit ? ` ${figure.unit}` : ''}`,
        budget(figure),
        isMissed(figure) ? 'MISSED' : budget(figure) && 'met'
      ])
  )
}

const COLOURS = { service: '#2a7de1', postgres: '#7aa6c2', redis: '#d1605e' }

/** Draws the CPU of each request, stacked by who used it. */
export function draw(rows: Row[], title: string): string {
  const [left, width, step] = [250, 760, 18]
  const total = (row: Row) => row.service + row.postgres + row.redis
  const widest = Math.max(...rows.map(total))
  const scale = (width - left - 60) / widest
  let y = 46
  const bars = rows.map((row, i) => {
    if (i > 0 && rows[i - 1]?.scenario !== row.scenario) y += 8
    let x = left
    const parts = (['service', 'postgres', 'redis'] as const).map((part) => {
      const bar = `<rect x="${x.toFixed(1)}" y="${y}" width="${(row[part] * scale).toFixed(1)}" height="12" fill="${COLOURS[part]}"/>`
      x += row[part] * scale
      return bar
    })
    const line = `<text x="${left - 8}" y="${y + 10}" text-anchor="end">${row.scenario}: ${row.rival}</text>${parts.join('')}<text x="${(x + 5).toFixed(1)}" y="${y + 10}">${short(total(row))}</text>`
    y += step
    return line
  })
  const legend = Object.entries({ service: 'the process', postgres: 'PostgreSQL', redis: 'Redis' }).map(
    ([part, name], i) =>
      `<rect x="${left + i * 110}" y="26" width="10" height="10" fill="${COLOURS[part as keyof typeof COLOURS]}"/><text x="${left + 15 + i * 110}" y="35">${name}</text>`
  )
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${y + 4}" font-family="sans-serif" font-size="11" fill="#777">
<text x="10" y="15">${title}</text>
${[...legend, ...bars].join('\n')}
</svg>
`
}
