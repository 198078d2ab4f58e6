import type { Row } from './row.ts'
import { accounts } from './rows/accounts.ts'
import { connections } from './rows/connections.ts'
import { messages } from './rows/messages.ts'
import { streams } from './rows/streams.ts'

/** The attack table. SECURITY.md has the same rows. */
export const rows: Row[] = [...connections, ...streams, ...messages, ...accounts]
