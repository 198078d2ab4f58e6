import { randomInt } from 'node:crypto'
import { createHistogram } from 'node:perf_hooks'
import type { Request } from '../scenarios.ts'
import { time } from '../send.ts'
import { onAllCores } from './processes.ts'
import type { Figure } from './report.ts'
import { seedUsers, USERS, type World } from './world.ts'

// Searches in a large room whose words are as frequent as Zipf's law has it.

const DATABASE = 'searched'
const VOCABULARY = 200_000
const WORDS = 8 // of a message
const BATCH = 100_000
const MAX_P99_MS = 300
const LETTERS = 'абвгдежзиклмнопр'

/** The word of that rank, of eight letters; the second one is half as frequent as the first, and so on. */
const wordOf = (rank: number) =>
  ((BigInt(rank) * 2654435761n) % 2n ** 32n)
    .toString(16)
    .padStart(8, '0')
    .replaceAll(/./g, (digit) => LETTERS.charAt(Number.parseInt(digit, 16)))

const PREPARE = `${seedUsers}; drop index chat_message_search_words;
  create unlogged table vocabulary as select n, translate(lpad(to_hex((n::bigint * 2654435761) % 4294967296), 8, '0'),
    '0123456789abcdef', '${LETTERS}') as word from generate_series(1, ${VOCABULARY}) n;
  create unique index on vocabulary (n)`

/** Adds messages, and what the service would index of them, which would take it an hour. */
const fill = (first: number, last: number) => `set session_replication_role = replica; set jit = off;
  insert into chat_message (id, user_id, text, created_at)
  select id, 1 + id % ${USERS}, string_agg(word, ' '), now() from (
    select id, ceil(exp(random() * ln(${VOCABULARY})))::int as n from generate_series(${first}, ${last}) id, generate_series(1, ${WORDS})
  ) random join vocabulary using (n) group by id;
  insert into chat_message_search (message_id, digest, words)
  select id, 0, (
    select string_agg(format('''%s:%s'':%sA', to_hex(id >> 16), word, position), ' ')
    from regexp_split_to_table(text, ' ') with ordinality as split (word, position)
  )::tsvector from chat_message where id between ${first} and ${last} order by id`

/** As if the service had indexed them: it goes on from here. */
const finish = (count: number) => `set maintenance_work_mem = '512MB';
  create index chat_message_search_words on chat_message_search using gin (words) with (fastupdate = off);
  alter sequence chat_message_id_seq restart with ${count + 1};
  update chat_search_state set seq = (select max(seq) from chat_event), below = null`

const anyOf = (from: number, to: number) => wordOf(randomInt(from, to + 1))
const QUERIES: [name: string, make: () => string][] = [
  ['a frequent word', () => anyOf(1, 50)],
  ['a rare word', () => anyOf(VOCABULARY / 2, VOCABULARY)],
  ['a word that is nowhere', () => `щ${anyOf(1, VOCABULARY)}`],
  ['two words', () => `${anyOf(1, 1000)} ${anyOf(1, 1000)}`],
  ['a frequent and a rare word', () => `${anyOf(1, 50)} ${anyOf(VOCABULARY / 2, VOCABULARY)}`],
  ['a phrase of two words', () => `"${anyOf(1, 1000)} ${anyOf(1, 1000)}"`],
  ['a beginning of 3 letters', () => anyOf(1, VOCABULARY).slice(0, 3)],
  [
    'a rare word and the beginning of a frequent one',
    () => `${anyOf(VOCABULARY / 2, VOCABULARY)} ${anyOf(1, 20).slice(0, 2)}`
  ],
  ['a frequent word and a beginning that is nowhere', () => `${anyOf(1, 50)} щщ`],
  ['a word and a beginning of 2 letters', () => `${anyOf(1, 1000)} ${anyOf(1, VOCABULARY).slice(0, 2)}`]
]

const toRequest = (q: string): Request => ({
  path: `/api/search?${new URLSearchParams({ q }).toString()}`
})

/** @returns how long searches take, one after the other, beside the budget */
export async function search(
  { sql, withService }: World,
  { rounds, most }: { rounds: number; most: number }
): Promise<Figure[]> {
  await sql('postgres', `create database ${DATABASE}`)
  // It makes the tables, and begins to index.
  await withService(DATABASE, async () => {})
  await sql(DATABASE, PREPARE)
  for (let first = 1; first <= most; first += BATCH) {
    await sql(DATABASE, fill(first, Math.min(most, first + BATCH - 1)))
  }
  await sql(DATABASE, finish(most))
  for (const statement of ['vacuum analyze', 'checkpoint']) await sql(DATABASE, statement)
  return withService(
    DATABASE,
    async ({ url }) => {
      const figures: Figure[] = []
      for (const [name, make] of QUERIES) {
        const times = createHistogram()
        for (let n = 0; n < rounds * 30; n++) {
          const ms = await time(url, toRequest(make()), 200)
          times.record(Math.max(1, Math.round(ms * 1000)))
        }
        const what = `search for ${name} in ${most.toLocaleString('en')} messages`
        const [p50, p99] = [times.percentile(50) / 1000, times.percentile(99) / 1000]
        figures.push({ what: `${what}, p50`, value: p50, unit: 'ms' })
        figures.push({ what: `${what}, p99`, value: p99, unit: 'ms', atMost: MAX_P99_MS })
      }
      return figures
    },
    onAllCores
  )
}
