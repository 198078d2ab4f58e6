import type autocannon from 'autocannon'

const POLLS_PER_POST = 100

/** What a scenario starts from: a user, their session, and the id of the newest message. */
export interface Room {
  credentials: { nickname: string; password: string }
  token: string
  newest: number
}

export interface Request {
  path: string
  method?: 'POST'
  headers?: Record<string, string>
  body?: string
}

/** A request with a JSON body, and with a session where there is a token. */
export const post = (path: string, body: object, token?: string): Request => ({
  path,
  method: 'POST',
  headers: {
    'content-type': 'application/json',
    ...(token !== undefined && { authorization: `Bearer ${token}` })
  },
  body: JSON.stringify(body)
})
export const postMessage = (token: string): Request =>
  post('/api/messages', { text: 'As long a sentence as most that people write in a chat.' }, token)

/** Makes each connection post, as another user. */
export function postAsMany(tokens: string[]): Partial<autocannon.Options> {
  let clients = 0
  return {
    setupClient: (client) => client.setRequests([postMessage(tokens[clients++ % tokens.length] ?? '')])
  }
}

/** What each connection of a scenario sends, over and over. */
export const scenarios: Record<string, (room: Room) => Partial<autocannon.Options>> = {
  poll: ({ newest }) => ({ requests: [{ path: `/api/messages?after_id=${newest}` }] }),
  page: () => ({ requests: [{ path: '/api/messages?limit=50' }] }),
  post: ({ token }) => ({ requests: [postMessage(token)] }),
  login: ({ credentials }) => ({ requests: [post('/api/login', credentials)] }),
  mixed: (room) => {
    let clients = 0
    // Seven polls apart, or all of them would post at the same moment.
    return { setupClient: (client) => actAsWebClient(client, room, 7 * clients++) }
  }
}

/**
 * Makes of a connection one web client: it asks for what came after the last message it saw, and posts one
 * after each hundred polls.
 */
function actAsWebClient(client: autocannon.Client, { token, newest }: Room, turn: number): void {
  let seen = newest
  let polls = turn
  const poll = (): autocannon.Request => ({
    path: `/api/messages?after_id=${seen}`,
    onResponse: (status, body) => {
      const unseen = status === 200 && body !== '[]' ? (JSON.parse(body) as { id: number }[]) : []
      seen = unseen.at(-1)?.id ?? seen
      if (++polls % POLLS_PER_POST === 0) client.setRequests([message])
      else if (unseen.length > 0) client.setRequests([poll()])
    }
  })
  const message: autocannon.Request = {
    ...postMessage(token),
    onResponse: () => client.setRequests([poll()])
  }
  client.setRequests([poll()])
}
