import type { Service } from './app.ts'

export const announcersOf = (replicas: Service[]) =>
  replicas.filter(({ app }) => app.room.follower.isAnnouncer)

/** Whether one of the replicas announces what is new, and all others rely on it. */
export const relyOnOne = (replicas: Service[]) =>
  announcersOf(replicas).length === 1 &&
  replicas.every(({ app }) => app.room.follower.isAnnouncer || app.room.channel.isAnnounced)
