import fc from 'fast-check'
import t from 'tap'
import type { Message, ListMessagesQuery } from '../../schemas/messages.ts'
import type { LogEntry } from '../../src/chat/event-log.ts'
import { TAIL_LENGTH, Timeline, toFrame } from '../../src/chat/timeline.ts'

// How many messages and how many events a Timeline keeps at the least once it has had them.
const KEPT = TAIL_LENGTH

/** The room as the database has it, its log, and a Timeline that follows it as the Follower does. */
class Room {
  readonly timeline = new Timeline()
  #messages = new Map<number, Message>()
  #sorted: Message[] | undefined
  #log: Omit<LogEntry, 'message'>[] = [{ seq: 1, kind: 'reset', id: 0 }]
  #frames: { seq: number; bytes: string }[] = [] // since the last load
  #loadedAt = 1
  #floor = -Infinity // From this id on the Timeline has promised to know everything.
  #known = new Set<number>()

  /** @param count the messages that are there before the Timeline is, every other id */
  constructor(count: number) {
    for (let n = 1; n <= count; n++) this.put(2 * n, `message ${2 * n}`)
    this.#load()
  }

  get floor(): number {
    return Math.max(0, this.#floor)
  }

  get all(): Message[] {
    this.#sorted ??= [...this.#messages.values()].sort((one, other) => one.id - other.id)
    return this.#sorted
  }

  #note(kind: LogEntry['kind'], id: number): void {
    this.#sorted = undefined
    this.#log.push({ seq: this.#log.length + 1, kind, id })
  }

  put(id: number, text: string): void {
    const isThere = this.#messages.has(id)
    this.#messages.set(id, { id, userId: 1, nickname: 'alice', text, createdAt: '2026-01-31T12:00:00.000Z' })
    this.#note(isThere ? 'message_updated' : 'message_created', id)
  }

  remove(id: number): void {
    if (this.#messages.delete(id)) this.#note('message_deleted', id)
  }

  reset(): void {
    this.#note('reset', 0)
  }

  #load(): void {
    const messages = this.all.slice(-TAIL_LENGTH)
    this.timeline.load({ messages, cursor: this.#log.length, isCut: false })
    this.#frames = []
    this.#loadedAt = this.#log.length
    this.#known = new Set(messages.map(({ id }) => id))
    this.#floor = messages.length < TAIL_LENGTH ? -Infinity : messages[0]!.id
  }

  /** Reads the log, a few entries at a time and some of them again, and applies it to the end. */
  follow(step: number, again: number): void {
    do {
      const from = Math.max(1, this.timeline.seq - again)
      const entries = this.#log
        .slice(from - 1, from + again + step)
        .map((entry) => ({ ...entry, message: this.#messages.get(entry.id) }))
      const before = this.timeline.seq
      if (this.timeline.apply(from, entries) === 'applied') {
        this.#remember(entries.filter(({ seq }) => seq > before))
      } else {
        this.#load()
      }
    } while (this.timeline.seq < this.#log.length)
  }

  #remember(entries: LogEntry[]): void {
    for (const entry of entries) {
      const frame = toFrame(entry)
      if (frame) this.#frames.push({ seq: entry.seq, bytes: `${frame}` })
      if (entry.kind === 'message_deleted') this.#known.delete(entry.id)
      else if (entry.message && entry.id >= this.#floor) this.#known.add(entry.id)
    }
    if (this.#known.size <= KEPT * 1.25) return
    this.#known = new Set([...this.#known].sort((one, other) => one - other).slice(-KEPT))
    this.#floor = Math.min(...this.#known)
  }

  checkPage(query: ListMessagesQuery): void {
    const { limit, after_id: after, before_id: before = Infinity } = query
    const size = Math.min(limit, 200)
    const page = this.timeline.page(query)
    if (page === undefined) {
      const isOlder =
        after !== undefined
          ? after + 1 < this.#floor
          : [...this.#known].filter((id) => id < before).length < size && this.#floor > -Infinity
      if (!isOlder) throw new Error('there is no page, although all of it is at hand')
      return
    }
    const wanted =
      after !== undefined
        ? this.all.filter(({ id }) => id > after).slice(0, size)
        : this.all.filter(({ id }) => id < before).slice(-size)
    if (`${page.json}` !== JSON.stringify(wanted)) {
      throw new Error(`${page.json} is not ${JSON.stringify(wanted)}`)
    }
    if (page.isEmpty !== (wanted.length === 0) || page.cursor !== this.#log.length) {
      throw new Error('a wrong description of the page')
    }
  }

  checkFrames(seq: number): void {
    const isAtHand = seq <= this.timeline.seq && this.timeline.recent.reachBackTo(seq)
    const frames = isAtHand ? this.timeline.recent.after(seq, Infinity).frames : undefined
    const wanted = this.#frames.filter((frame) => frame.seq > seq).map(({ bytes }) => bytes)
    if (frames === undefined) {
      if (seq >= this.#loadedAt && seq <= this.#log.length && wanted.length < KEPT) {
        throw new Error('there are no events, although all of them are at hand')
      }
    } else if (seq < this.#loadedAt || seq > this.#log.length || frames.join('') !== wanted.join('')) {
      throw new Error(`wrong events after ${seq}`)
    }
  }
}

// Numbers are places among what there is, in thousandths, so that they mean something whatever came before.
const place = fc.oneof(fc.nat(1000), fc.integer({ min: 300, max: 450 })) // there the oldest at hand often is
const change = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      type: fc.constant('create' as const),
      count: fc.oneof(fc.integer({ min: 1, max: 5 }), fc.integer({ min: 1, max: 700 })),
      gap: fc.integer({ min: 1, max: 3 })
    })
  },
  { weight: 2, arbitrary: fc.record({ type: fc.constant('late' as const), place }) },
  { weight: 2, arbitrary: fc.record({ type: fc.constant('update' as const), place, text: fc.string() }) },
  {
    weight: 3,
    arbitrary: fc.record({
      type: fc.constant('delete' as const),
      place,
      count: fc.oneof(fc.integer({ min: 1, max: 3 }), fc.integer({ min: 1, max: 500 }))
    })
  },
  { weight: 1, arbitrary: fc.record({ type: fc.constant('reset' as const) }) },
  {
    weight: 4,
    arbitrary: fc.record({
      type: fc.constant('follow' as const),
      step: fc.integer({ min: 1, max: 900 }),
      again: fc.nat(3)
    })
  }
)
const anywhere = fc.oneof(fc.integer({ min: -50, max: 6000 }), fc.constantFrom(0, -1, 2 ** 53, -(2 ** 53)))
const look = fc.record({
  limit: fc.oneof(
    { weight: 2, arbitrary: fc.integer({ min: 1, max: 4 }) },
    fc.integer({ min: 1, max: 250 }),
    fc.constant(Number.MAX_SAFE_INTEGER)
  ),
  cursor: fc.constantFrom('after_id', 'before_id', undefined),
  id: anywhere,
  place,
  near: fc.constantFrom('a message', 'the oldest at hand', 'the oldest at hand', undefined)
})

t.test('pages and events from memory equal those from the database, or are not served', async (t) => {
  let pages = 0
  fc.assert(
    fc.property(
      fc.constantFrom(0, 999, 1000, 1700, 1700, 1700),
      fc.array(change, { maxLength: 25 }),
      fc.array(look, { minLength: 1, maxLength: 10 }),
      (count, changes, looks) => {
        const room = new Room(count)
        const idAt = (thousandths: number) =>
          room.all[Math.floor((thousandths / 1001) * room.all.length)]?.id ?? 0
        const check = () => {
          for (const { limit, cursor, id, place, near } of looks) {
            const at = near ? (near === 'a message' ? idAt(place) : room.floor) + (id % 4) : id
            room.checkPage({ limit, ...(cursor && { [cursor]: at }) })
            room.checkFrames(near ? Math.floor((place / 1000) * room.timeline.seq) : id)
            pages++
          }
        }
        let last = 2 * count
        for (const step of changes) {
          if (step.type === 'create') {
            for (let n = 0; n < step.count; n++) room.put((last += step.gap), `message ${last}`)
          } else if (step.type === 'late') room.put(idAt(step.place) + 1, 'late')
          else if (step.type === 'update') room.put(idAt(step.place), step.text)
          else if (step.type === 'delete') {
            const first = room.all.findIndex(({ id }) => id === idAt(step.place))
            for (const { id } of first < 0 ? [] : room.all.slice(first, first + step.count)) room.remove(id)
          } else if (step.type === 'reset') room.reset()
          else {
            room.follow(step.step, step.again)
            check()
          }
          if (step.type === 'late') last = Math.max(last, room.all.at(-1)?.id ?? 0)
        }
        room.follow(1000, 0)
        check()
      }
    )
  )
  t.ok(pages > 100, `${pages} pages`)
})
