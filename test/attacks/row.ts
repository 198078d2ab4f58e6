import type { Redis } from 'ioredis'
import type pg from 'pg'
import type { Test } from 'tap'
import type { Attacker } from './attacker.ts'

/** An account of the attacker. */
export interface Account {
  userId: number
  nickname: string
  password: string
  token: string
}

/** What a row can use besides the service itself. */
export interface Stage {
  t: Test
  /** Where clients send their requests. */
  url: string
  /** Where the replicas themselves listen. */
  origins: string[]
  database: string
  sql: pg.Client
  redis: Redis
  /** Inserts messages of the attacker by SQL. @returns their ids */
  insert: (count: number, text: string) => Promise<number[]>
  /** Registers accounts of the attacker, before the attack and from addresses that have no part in it. */
  register: (count: number) => Promise<Account[]>
  /** The metrics of all replicas together, by names such as `chat_password_queue{state="waiting"}`. */
  metrics: () => Promise<Map<string, number>>
  /** The errors that the service has logged so far. */
  errors: () => { msg: string }[]
}

/** One row of the attack table: what it says in SECURITY.md, and how it is done. */
export interface Row<Given = unknown, Found = unknown> {
  name: string
  /** What the attacker sends, and how much of it. */
  sent: string
  /** What stops it. */
  stops: string
  /** What the service is configured with besides the defaults. */
  env?: Record<string, string>
  /** How many connections the attacker holds at most; 50 where it is not said. */
  connections?: number
  /** For how many seconds it goes on; 5 where it is not said. */
  seconds?: number
  /** Whether the service is started again right before the attack. */
  isFresh?: boolean
  /** Whether two replicas run behind an nginx that is configured with nothing but their addresses. */
  isProxied?: boolean
  /**
   * Whether the attacker keeps its connections after the attack, so that the service has to let go of them.
   */
  holds?: boolean
  /** What others read; the newest page where it is not said. */
  page?: string
  /** Whether others may be refused with 503 meanwhile, but for the probes of their health. */
  mayRefuse?: boolean
  /** Sets the room up. What it resolves to goes to the attacker as JSON. */
  prepare?: (stage: Stage) => Promise<Given>
  /** Runs in the attacker's process. What it resolves to comes back as JSON. */
  attack: (attacker: Attacker, given: Given) => Promise<Found>
  /** What must be true besides what is true for every row. */
  expect?: (stage: Stage, found: Found, given: Given) => unknown
}

/** Makes a row whose parts agree on what goes to the attacker and what comes back. */
export const row = <Given, Found>(parts: Row<Given, Found>): Row => parts as Row
