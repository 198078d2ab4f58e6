import t from 'tap'
import { check, type Evidence, ROLLED_BACK } from './checker.ts'

/** Three messages, of which one is edited and one deleted, and two readers who saw all of it. */
const clean = (): Evidence => ({
  table: [
    { id: 1, text: 'one edited' },
    { id: 3, text: 'three' }
  ],
  log: [
    { seq: 1, kind: 'message_created', id: 1 },
    { seq: 2, kind: 'message_created', id: 2 },
    { seq: 4, kind: 'message_updated', id: 1 },
    { seq: 5, kind: 'message_deleted', id: 2 },
    { seq: 6, kind: 'message_created', id: 3 }
  ],
  written: [
    { name: 'one', certain: true, ids: [1, 1], news: 1, edits: 1, final: 'one edited' },
    { name: 'two', certain: true, ids: [2], news: 1, edits: 0, final: undefined },
    { name: 'three', certain: false, ids: [], news: 0, edits: 0, final: 'three' }
  ],
  pollers: [
    {
      name: 'poller',
      seen: [
        { id: 1, text: 'one' },
        { id: 2, text: 'two' },
        { id: 3, text: 'three' }
      ]
    }
  ],
  streams: [
    {
      name: 'stream',
      sessions: [
        { since: 0, limit: 50, list: [], events: [{ seq: 1, type: 'message_created', id: 1, text: 'one' }] },
        {
          since: 1,
          limit: 50,
          list: [{ id: 1, text: 'one' }],
          events: [
            { seq: 2, type: 'message_created', id: 2, text: 'two' },
            { seq: 4, type: 'message_updated', id: 1, text: 'one edited' },
            { seq: 5, type: 'message_deleted', id: 2 },
            { seq: 6, type: 'message_created', id: 3, text: 'three' }
          ]
        }
      ]
    }
  ],
  silences: [],
  blackouts: []
})

const kinds = (plant: (evidence: Evidence) => void) => {
  const evidence = clean()
  plant(evidence)
  return [...new Set(check(evidence).map(({ kind }) => kind))]
}
const seen = ({ pollers: [poller] }: Evidence) => poller!.seen
const session = ({ streams: [stream] }: Evidence) => stream!.sessions[1]!

t.test('a correct history passes', async (t) => {
  t.strictSame(check(clean()), [])
  t.strictSame(
    kinds((evidence) => {
      seen(evidence).splice(1, 1)
    }),
    [],
    'a message that was deleted before it was polled'
  )
  t.strictSame(
    kinds((evidence) => {
      session(evidence).events.splice(0, 1)
    }),
    [],
    'a creation that was deleted before it was delivered'
  )
  t.strictSame(
    kinds((evidence) => {
      session(evidence).list[0]!.text = 'one edited'
    }),
    [],
    'a text that is ahead of its event'
  )
  t.strictSame(
    kinds((evidence) => {
      evidence.written.push({ name: 'four', certain: false, ids: [], news: 0, edits: 0, final: 'four' })
    }),
    [],
    'a post that was sent once, and whose answer was lost with it'
  )
  t.strictSame(
    kinds((evidence) => {
      Object.assign(session(evidence), { since: 6, limit: 1, list: [{ id: 3, text: 'three' }], events: [] })
    }),
    [],
    'a list that does not reach back to the first message'
  )
})

/** The log was not in force while the third message came, and everybody was told to load the room again. */
const blackOut = (evidence: Evidence) => {
  evidence.log[4] = { seq: 7, kind: 'reset', id: 0 }
  evidence.blackouts.push({ from: 5, to: 7, created: [3], deleted: [] })
  seen(evidence).pop()
  session(evidence).events.pop()
  session(evidence).resetAt = 7
  evidence.streams[0]!.sessions.push({
    since: 7,
    limit: 50,
    list: [
      { id: 1, text: 'one edited' },
      { id: 3, text: 'three' }
    ],
    events: []
  })
}
t.strictSame(kinds(blackOut), [], 'a time when the log was not in force passes')

const faults: Record<string, [kind: string, plant: (evidence: Evidence) => void][]> = {
  'a poller': [
    [
      'missed',
      (evidence) => {
        seen(evidence).pop()
      }
    ],
    [
      'twice',
      (evidence) => {
        seen(evidence).push({ id: 3, text: 'three' })
      }
    ],
    [
      'order',
      (evidence) => {
        seen(evidence).reverse()
      }
    ],
    [
      'invented',
      (evidence) => {
        seen(evidence).push({ id: 4, text: 'four' })
      }
    ],
    [
      'invented',
      (evidence) => {
        seen(evidence)[2]!.text = 'four'
      }
    ],
    [
      'rolled back',
      (evidence) => {
        seen(evidence)[0]!.text = `one ${ROLLED_BACK}`
      }
    ]
  ],
  'a stream': [
    [
      'missed',
      (evidence) => {
        session(evidence).events.splice(2, 1)
      }
    ],
    [
      'missed',
      (evidence) => {
        session(evidence).events.splice(1, 1)
      }
    ],
    [
      'missed',
      (evidence) => {
        session(evidence).list.pop()
      }
    ],
    [
      'twice',
      ({ streams: [stream] }) => {
        stream!.sessions[1]!.events.push({ seq: 6, type: 'message_created', id: 3, text: 'three' })
      }
    ],
    [
      'order',
      (evidence) => {
        session(evidence).events.reverse()
      }
    ],
    [
      'invented',
      (evidence) => {
        session(evidence).events[0]!.id = 9
      }
    ],
    [
      'snapshot',
      (evidence) => {
        session(evidence).list.push({ id: 2, text: 'two' })
      }
    ],
    [
      'diverged',
      (evidence) => {
        session(evidence).events[1]!.text = 'one'
      }
    ],
    [
      'rolled back',
      (evidence) => {
        session(evidence).events[0]!.text = `two ${ROLLED_BACK}`
      }
    ]
  ],
  'a time when the log is not in force': [
    [
      'missed',
      (evidence) => {
        blackOut(evidence)
        evidence.streams[0]!.sessions.pop()
        delete session(evidence).resetAt
      }
    ],
    [
      'missed',
      (evidence) => {
        blackOut(evidence)
        evidence.streams[0]!.sessions[2]!.list.pop()
      }
    ],
    [
      'missed',
      (evidence) => {
        blackOut(evidence)
        evidence.blackouts[0]!.created = []
      }
    ],
    [
      'reset',
      (evidence) => {
        session(evidence).resetAt = 6
      }
    ]
  ],
  'a restriction': [
    [
      'heard',
      (evidence) => {
        session(evidence).events[3]!.text = 'three-1'
        evidence.silences.push({ author: 'three', from: 5, to: 6 })
      }
    ],
    [
      'lost',
      ({ table, written }) => {
        table.push({ id: 4, text: 'four' })
        written.push({ name: 'four', certain: false, ids: [], news: 0, edits: 0, final: undefined })
      }
    ]
  ],
  'the table': [
    [
      'twice',
      ({ table }) => {
        table.push({ id: 4, text: 'three' })
      }
    ],
    [
      'lost',
      ({ table }) => {
        table.shift()
      }
    ],
    [
      'lost',
      ({ table }) => {
        table[0]!.text = 'one'
      }
    ],
    [
      'lost',
      ({ table }) => {
        table.push({ id: 2, text: 'two' })
      }
    ],
    [
      'invented',
      ({ table }) => {
        table.push({ id: 4, text: 'four' })
      }
    ],
    [
      'rolled back',
      ({ table }) => {
        table.push({ id: 4, text: `four ${ROLLED_BACK}` })
      }
    ]
  ],
  'an answer': [
    [
      'twice',
      ({ written }) => {
        written[0]!.ids.push(3)
      }
    ],
    [
      'twice',
      ({ written }) => {
        written[0]!.news = 2
      }
    ],
    [
      'lost',
      ({ written }) => {
        written[0]!.ids = []
      }
    ]
  ],
  'the log': [
    [
      'missed',
      ({ log }) => {
        log.splice(2, 1)
      }
    ],
    [
      'missed',
      ({ log }) => {
        log.splice(3, 1)
      }
    ],
    [
      'missed',
      ({ log }) => {
        log.splice(4, 1)
      }
    ],
    [
      'twice',
      ({ log }) => {
        log.push({ seq: 7, kind: 'message_created', id: 3 })
      }
    ],
    [
      'order',
      ({ log }) => {
        log[1]!.id = 3
        log[4]!.id = 2
      }
    ]
  ]
}
for (const [where, plants] of Object.entries(faults)) {
  t.test(`a fault of ${where} is found`, async (t) => {
    for (const [kind, plant] of plants) t.ok(kinds(plant).includes(kind), `${kind}: ${plant}`)
  })
}
