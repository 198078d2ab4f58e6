import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import type { Message } from '../../schemas/messages.ts'
import { Room, WINDOW, type Change, type Page } from '../../web/room.js'

const quoted = ({ id, userId, nickname, text }: Message) => ({ id, userId, nickname, text })

/** A service that can be asked, and whose answers arrive when the test wants. */
class Service {
  messages: Message[] = []
  log: Change[] = []
  waiting: (() => void)[] = []
  /** A page is cut to so many messages, whatever the limit: as if they were very large. */
  longestPage = Infinity
  queries: string[] = []
  #id = 0

  #happens(change: Change) {
    this.log.push({ ...change, seq: this.log.length + 1 })
  }

  create() {
    const id = ++this.#id
    const message: Message = {
      id,
      userId: 1,
      nickname: 'alice',
      text: 'new',
      createdAt: '2026-01-31T12:00:00.000Z'
    }
    const replied = id % 3 === 0 ? this.messages[(id * 7) % this.messages.length] : undefined
    if (replied) message.replyTo = quoted(replied)
    this.messages.push(message)
    this.#happens({ type: 'message_created', message })
  }

  update(at: number) {
    const old = this.messages[at % this.messages.length]
    if (!old) return
    const message = { ...old, text: `changed ${this.log.length}` }
    this.messages[this.messages.indexOf(old)] = message
    this.#quote(quoted(message))
    this.#happens({ type: 'message_updated', message })
  }

  delete(at: number) {
    const [message] = this.messages.splice(at % Math.max(this.messages.length, 1), 1)
    if (!message) return
    this.#quote({ id: message.id, deleted: true })
    this.#happens({ type: 'message_deleted', id: message.id })
  }

  /** Replies show a message as it is now, and no event tells so. */
  #quote(replyTo: NonNullable<Message['replyTo']>) {
    this.messages = this.messages.map((message) => {
      return message.replyTo?.id === replyTo.id ? { ...message, replyTo } : message
    })
  }

  deleteAll() {
    while (this.messages.length > 0) this.delete(0)
  }

  read = (query: string): Promise<Page> => {
    this.queries.push(query)
    const { limit, before_id: before, after_id: after } = Object.fromEntries(new URLSearchParams(query))
    const all = this.messages.filter(({ id }) => id < Number(before ?? Infinity) && id > Number(after ?? -1))
    const length = Math.min(Number(limit), this.longestPage)
    const page = { messages: after ? all.slice(0, length) : all.slice(-length), cursor: this.log.length }
    return new Promise((resolve) => this.waiting.push(() => resolve(page)))
  }
}

const settle = () => new Promise(setImmediate)

/** A room, and what its page does: it shows what is near the view, and hears of what happens. */
function openRoom(service: Service) {
  const room = new Room(service.read)
  const arrive = async () => {
    service.waiting.splice(0).forEach((resolve) => resolve())
    await settle()
  }
  const hear = (count = Infinity) => {
    room.apply(service.log.filter(({ seq = 0 }) => seq > (room.cursor ?? Infinity)).slice(0, count))
  }
  /** Until there is nothing more to load at that end. */
  const loadAll = async (end: 'older' | 'newer') => {
    const seen = new Map<number, Message>()
    for (;;) {
      for (const message of room.messages) seen.set(message.id, message)
      if (!room.more[end]) return [...seen.values()].sort((a, b) => a.id - b.id)
      room.loadMore(end).catch(assert.fail)
      await arrive()
    }
  }
  return { room, arrive, hear, loadAll }
}

t.test(
  'whatever happens while whatever is loaded, the room is a part of the truth without a gap',
  async (t) => {
    const loads = ['older', 'newer', 'newest', 'refresh'] as const
    const others = ['create', 'tell', 'arrive', 'follow', 'look up', 'cut'] as const
    const step = fc.oneof(
      fc.record({ do: fc.constantFrom(...loads, ...others), n: fc.nat(80) }),
      fc.record({ do: fc.constantFrom('update', 'delete', 'arrive', 'tell', 'around'), n: fc.nat(5000) }),
      fc.record({ do: fc.constant('delete all'), n: fc.constant(0) })
    )
    await fc.assert(
      fc.asyncProperty(fc.nat(600), fc.array(step, { maxLength: 60 }), async (before, steps) => {
        const service = new Service()
        for (let i = 0; i < before; i++) service.create()
        const { room, arrive, hear, loadAll } = openRoom(service)
        room.loadNewest().catch(assert.fail)
        await arrive()
        for (const { do: what, n } of steps) {
          if (what === 'create') for (let i = 0; i < n; i++) service.create()
          else if (what === 'update' || what === 'delete') service[what](n)
          else if (what === 'delete all') service.deleteAll()
          else if (what === 'tell') hear(n)
          else if (what === 'arrive') await arrive()
          else if (what === 'older' || what === 'newer') room.loadMore(what).catch(assert.fail)
          else if (what === 'newest') room.loadNewest().catch(assert.fail)
          else if (what === 'refresh') room.refresh().catch(assert.fail)
          else if (what === 'around') room.loadAround(n % 700).catch(assert.fail)
          else if (what === 'cut') service.longestPage = n < 60 ? n + 1 : Infinity
          else room.isFollowing = what === 'follow' && !room.more.newer
          if (room.messages.length > WINDOW) throw new Error('more than is kept')
        }
        while (service.waiting.length > 0) await arrive()
        hear()
        const first = room.messages[0]?.id ?? Infinity
        const last = room.messages.at(-1)?.id ?? 0
        const isIn = (id: number) => (id >= first || !room.more.older) && (id <= last || !room.more.newer)
        const truth = service.messages.filter(({ id }) => isIn(id))
        // Where a part was deleted as a whole, the page is yet to begin anew.
        const isEmptied = room.messages.length === 0 && (room.more.older || room.more.newer)
        if (!isEmptied) assert.deepEqual(room.messages, truth)
        // And from there, everything can be reached.
        service.longestPage = 50
        await loadAll('newer')
        hear()
        assert.deepEqual(await loadAll('older'), service.messages)
      }),
      { numRuns: 400 }
    )
    t.pass()
  }
)

t.test('own messages that arrive before others are shown in order', async (t) => {
  const service = new Service()
  service.create()
  const { room, arrive } = openRoom(service)
  room.loadNewest().catch(assert.fail)
  await arrive()
  room.loadMore('older').catch(assert.fail)
  await arrive()
  service.create()
  service.create()
  room.apply([{ type: 'message_created', message: service.messages[2]! }])
  t.strictSame(
    room.messages.map(({ id }) => id),
    [1, 3]
  )
  room.apply(service.log.slice(1))
  t.strictSame(
    room.messages.map(({ id }) => id),
    [1, 2, 3]
  )
})

t.test('pages that are cut short: only an empty one is the beginning, or the end', async (t) => {
  for (const longestPage of [1, 3, 49, 50]) {
    const service = new Service()
    for (let i = 0; i < 180; i++) service.create()
    service.longestPage = longestPage
    const { room, arrive, loadAll } = openRoom(service)
    room.loadNewest().catch(assert.fail)
    await arrive()
    t.equal(room.messages.length, longestPage)
    t.equal(room.more.older, true, `${longestPage} of 180 is not all`)
    t.equal((await loadAll('older')).length, 180)
    t.match(service.queries.at(-1), /before_id=1$/, 'and the last page was empty')

    // Somewhere else, with newer ones that it knows of.
    room.isFollowing = false
    for (let i = 0; i < 100; i++) service.create()
    room.apply(service.log.slice(180))
    t.equal(room.more.newer, true)
    t.equal((await loadAll('newer')).at(-1)?.id, 280)
    t.strictSame(
      room.messages.map(({ id }) => id),
      Array.from({ length: 200 }, (_, i) => i + 81)
    )
  }
})

t.test('a refresh by pages that are cut short reads all of it, and drops what is gone', async (t) => {
  const service = new Service()
  for (let i = 0; i < 120; i++) service.create()
  const { room, arrive, loadAll } = openRoom(service)
  room.loadNewest().catch(assert.fail)
  await arrive()
  await loadAll('older')
  service.longestPage = 7
  service.update(3)
  service.update(119)
  service.delete(60)
  service.delete(118)
  room.refresh().catch(assert.fail)
  while (service.waiting.length > 0) await arrive()
  t.strictSame(room.messages, service.messages)
  t.strictSame(room.more, { older: false, newer: false })
})

t.test('when all that it shows is deleted, the room begins anew', async (t) => {
  const service = new Service()
  for (let i = 0; i < 80; i++) service.create()
  const { room, arrive, hear, loadAll } = openRoom(service)
  room.loadNewest().catch(assert.fail)
  await arrive()
  for (let i = 0; i < 50; i++) service.delete(service.messages.length - 1)
  hear()
  t.strictSame(room.messages, [])
  t.equal((await loadAll('older')).length, 30)
  service.create()
  hear()
  t.equal(room.messages.at(-1)?.id, 81)
})

t.test('a message is loaded with its neighbours, and nothing changes if it does not exist', async (t) => {
  const service = new Service()
  for (let i = 0; i < 300; i++) service.create()
  const { room, arrive } = openRoom(service)
  room.loadNewest().catch(assert.fail)
  await arrive()
  service.delete(199)
  const ids = () => room.messages.map(({ id }) => id)
  const loadAround = async (id: number) => {
    const loading = room.loadAround(id)
    await arrive()
    return loading
  }
  t.equal(await loadAround(100), true)
  t.strictSame(
    ids(),
    Array.from({ length: 50 }, (_, i) => i + 76)
  )
  t.strictSame([room.more, room.isFollowing], [{ older: true, newer: true }, false])
  for (const gone of [200, 0, 301]) t.equal(await loadAround(gone), false)
  t.equal(ids()[0], 76)
  t.equal(await loadAround(300), true)
  t.equal(room.more.newer, false)
})

t.test('an answer that comes after the events changes nothing', async (t) => {
  const service = new Service()
  const { room, arrive, hear } = openRoom(service)
  room.loadNewest().catch(assert.fail)
  await arrive()
  service.create()
  service.create()
  service.create()
  hear()
  const [first, second, reply] = service.messages as [Message, Message, Message]
  room.apply([{ type: 'message_updated', message: { ...reply, replyTo: quoted(first) } }])

  service.delete(0)
  hear()
  room.apply([{ type: 'message_created', message: first }])
  room.apply([{ type: 'message_updated', message: { ...first, text: 'edited' } }])
  const ids = () => room.messages.map(({ id }) => id)
  t.strictSame(ids(), [second.id, reply.id], 'a deleted message does not come back')
  t.strictSame(room.messages.at(-1)?.replyTo, { id: first.id, deleted: true }, 'nor does its quote')

  const edits = ['first', 'second'].map((text, i) => {
    return { ...second, text, editedAt: `2026-01-31T12:00:0${i}.000Z` }
  }) as [Message, Message]
  const cursor = room.cursor ?? 0
  room.apply(edits.map((message, i) => ({ type: 'message_updated', message, seq: cursor + 1 + i })))
  room.apply([{ type: 'message_updated', message: edits[0] }])
  t.equal(room.messages[0]?.text, 'second', 'the later edit stays')
  room.apply([{ type: 'message_updated', message: { ...edits[1], text: 'third' } }])
  t.equal(room.messages[0]?.text, 'third', 'one that is not earlier is shown at once')

  const quote = quoted({ ...second, text: 'third' })
  room.apply([{ type: 'message_updated', message: { ...reply, replyTo: quote } }])
  room.apply([{ type: 'message_created', message: second }])
  t.strictSame(room.messages.at(-1)?.replyTo, quote, 'a reply does not quote what was there before the edits')

  room.apply([{ type: 'message_created', message: first, seq: cursor + 3 }])
  t.strictSame(ids(), [first.id, second.id, reply.id], 'a message that is restored does')
})

t.test(
  'a message that could not be loaded because something else was is not taken for one that is gone',
  async (t) => {
    const service = new Service()
    for (let i = 0; i < 300; i++) service.create()
    const { room, arrive } = openRoom(service)
    room.loadNewest().catch(assert.fail)
    await arrive()
    const [first, second] = [room.loadAround(50), room.loadAround(100)]
    await arrive()
    t.strictSame(await Promise.all([first, second]), [undefined, true])
  }
)
