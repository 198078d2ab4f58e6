// Answers `!time` in the room, until it is stopped:
//   CHAT_URL=https://chat.example CHAT_TOKEN=chat_… npx tsx time-bot.ts
import { ChatClient } from 'chat-backend-client'

const { CHAT_URL = '', CHAT_TOKEN } = process.env
const chat = new ChatClient({ url: CHAT_URL, token: CHAT_TOKEN })
const me = await chat.getMe()

const stop = new AbortController()
process.once('SIGINT', () => stop.abort()).once('SIGTERM', () => stop.abort())
const onRetry = (error: Error) => console.error(`${error.message}, trying again`)

for await (const event of chat.follow({ signal: stop.signal, onRetry })) {
  if (event.type === 'list') console.log(`${me.nickname} is listening`)
  if (event.type !== 'message_created') continue
  const { id, text, userId } = event.message
  if (text !== '!time' || userId === me.userId) continue
  try {
    // The key makes sure that nobody is answered twice, even if two of this bot run by mistake.
    const answer = { text: new Date().toISOString(), replyTo: id }
    await chat.postMessage(answer, { idempotencyKey: `time-${id}`, signal: stop.signal })
  } catch (error) {
    console.error(`no answer to message ${id}:`, error)
  }
}
