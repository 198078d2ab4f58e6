import type { Message } from '../../schemas/messages.ts'
import { toReplied } from './messages.ts'

/** Indexes replies by the message they reply to, so that they can be updated when it changes. */
export class Replies {
  #byId = new Map<number, Message>()
  #byReplied = new Map<number, Set<number>>()

  /** Adds a message, if it is a reply. */
  put(message: Message): void {
    if (message.replyTo === undefined) return
    this.#byId.set(message.id, message)
    const { id } = message.replyTo
    const ids = this.#byReplied.get(id)
    if (ids) ids.add(message.id)
    else this.#byReplied.set(id, new Set([message.id]))
  }

  remove(id: number): void {
    const replied = this.#byId.get(id)?.replyTo?.id
    if (replied === undefined) return
    this.#byId.delete(id)
    const ids = this.#byReplied.get(replied)
    ids?.delete(id)
    if (ids?.size === 0) this.#byReplied.delete(replied)
  }

  forgetBefore(id: number): void {
    for (const known of this.#byId.keys()) if (known < id) this.remove(known)
  }

  /**
   * Applies a change or the deletion of a message.
   * @returns its replies, updated
   */
  tell(id: number, message: Message | undefined): Message[] {
    const changed: Message[] = []
    for (const replyId of this.#byReplied.get(id) ?? []) {
      const reply = this.#byId.get(replyId)
      if (reply === undefined) continue
      reply.replyTo = message
        ? toReplied(id, message.userId, message.nickname, message.text)
        : { id, deleted: true }
      changed.push(reply)
    }
    return changed
  }
}
