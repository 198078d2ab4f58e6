import type { Room } from '../../schemas/room.ts'
import type { Query } from '../database/query.ts'

/** The settings of the room. */
export async function readSettings(query: Query): Promise<Omit<Room, 'online'>> {
  const [row] = await query<Omit<Room, 'online'>>(
    `select topic, slow_mode_seconds as "slowModeSeconds", read_only as "readOnly"
     from chat_room where id = 1`
  )
  return row ?? { topic: '', slowModeSeconds: 0, readOnly: false }
}
