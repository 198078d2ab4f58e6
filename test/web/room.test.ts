import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import type { Message } from '../../schemas/messages.ts'
import { Room, WINDOW, type Change, type Page } from '../../web/room.js'

/** A service that can be asked, and whose answers arrive when the test wants. */
class Service {
  messages: Message[] = []
  log: Change[] = []
  waiting: (() => void)[] = []
  #id = 0

  #happens (change: Change) {
    this.log.push({ ...change, seq: this.log.length + 1 })
  }

  create () {
    const message = { id: ++this.#id, userId: 1, nickname: 'alice', text: 'new', createdAt: '2026-01-31T12:00:00.000Z' }
    this.messages.push(message)
    this.#happens({ type: 'message_created', message })
  }

  update (at: number) {
    const old = this.messages[at % this.messages.length]
    if (!old) return
    const message = { ...old, text: `changed ${this.log.length}` }
    this.messages[this.messages.indexOf(old)] = message
    this.#happens({ type: 'message_updated', message })
  }

  delete (at: number) {
    const [message] = this.messages.splice(at % Math.max(this.messages.length, 1), 1)
    if (message) this.#happens({ type: 'message_deleted', id: message.id })
  }

  read = (query: string): Promise<Page> => {
    const { limit, before_id: before, after_id: after } = Object.fromEntries(new URLSearchParams(query)) as Record<string, string>
    const all = this.messages.filter(({ id }) => id < Number(before ?? Infinity) && id > Number(after ?? -1))
    const page = { messages: after ? all.slice(0, Number(limit)) : all.slice(-Number(limit)), cursor: this.log.length }
    return new Promise((resolve) => this.waiting.push(() => resolve(page)))
  }
}

const settle = () => new Promise(setImmediate)

t.test('whatever happens while whatever is loaded, the room is a part of the truth without a gap', async (t) => {
  const step = fc.oneof(
    fc.record({ do: fc.constantFrom('create', 'tell', 'arrive', 'older', 'newer', 'newest', 'refresh', 'follow', 'look up'), n: fc.nat(80) }),
    fc.record({ do: fc.constantFrom('update', 'delete', 'arrive', 'tell'), n: fc.nat(5000) }))
  await fc.assert(fc.asyncProperty(fc.nat(600), fc.array(step, { maxLength: 60 }), async (before, steps) => {
    const service = new Service()
    for (let i = 0; i < before; i++) service.create()
    const room = new Room(service.read, () => {})
    const arrive = async () => {
      service.waiting.splice(0).forEach((resolve) => resolve())
      await settle()
    }
    const tell = (count: number) => room.apply(service.log.filter(({ seq = 0 }) => seq > (room.cursor ?? Infinity)).slice(0, count))
    room.loadNewest().catch(assert.fail)
    await arrive()
    for (const { do: what, n } of steps) {
      if (what === 'create') for (let i = 0; i < n; i++) service.create()
      else if (what === 'update' || what === 'delete') service[what](n)
      else if (what === 'tell') tell(n)
      else if (what === 'arrive') await arrive()
      else if (what === 'older' || what === 'newer') room.loadMore(what).catch(assert.fail)
      else if (what === 'newest') room.loadNewest().catch(assert.fail)
      else if (what === 'refresh') room.refresh().catch(assert.fail)
      else room.isFollowing = what === 'follow' && !room.more.newer
      if (room.messages.length > WINDOW) throw new Error('more than is kept')
    }
    await arrive()
    tell(Infinity)
    const first = room.messages[0]?.id ?? Infinity
    const last = room.messages.at(-1)?.id ?? 0
    const truth = service.messages.filter(({ id }) => (id >= first || !room.more.older) && (id <= last || !room.more.newer))
    // A part that was deleted as a whole is nowhere.
    if (room.messages.length > 0 || !(room.more.older || room.more.newer)) assert.deepEqual(room.messages, truth)
  }), { numRuns: 400 })
  t.pass()
})

t.test('own messages that come before others are where they belong', async (t) => {
  const service = new Service()
  service.create()
  const room = new Room(service.read, () => {})
  room.loadNewest().catch(assert.fail)
  service.waiting[0]!()
  await settle()
  service.create()
  service.create()
  room.apply([{ type: 'message_created', message: service.messages[2]! }])
  t.strictSame(room.messages.map(({ id }) => id), [1, 3])
  room.apply(service.log.slice(1))
  t.strictSame(room.messages.map(({ id }) => id), [1, 2, 3])
})
