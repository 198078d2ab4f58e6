// Posts one message, for instance at the end of a CI job, and exits with 0 when it is in the room:
//   CHAT_URL=https://chat.example CHAT_TOKEN=chat_… CHAT_KEY=build-1234 npx tsx post.ts build 1234 passed
// Runs with the same CHAT_KEY and the same text post it once.
import { ChatClient } from 'chat-backend-client'

const { CHAT_URL, CHAT_TOKEN, CHAT_KEY, CHAT_TEXT = '' } = process.env
const text = process.argv.slice(2).join(' ') || CHAT_TEXT
if (!CHAT_URL || !CHAT_TOKEN || !text) {
  console.error('usage: CHAT_URL=… CHAT_TOKEN=… [CHAT_KEY=…] post.ts TEXT')
  process.exit(2)
}

const chat = new ChatClient({ url: CHAT_URL, token: CHAT_TOKEN })
try {
  const { id } = await chat.postMessage({ text }, { idempotencyKey: CHAT_KEY || undefined })
  console.log(`posted as message ${id}`)
} catch (error) {
  console.error(`not posted: ${error instanceof Error ? error.message : error}`)
  process.exitCode = 1
}
