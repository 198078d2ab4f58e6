import { type Static, Type } from '@sinclair/typebox'

const roles = ['member', 'moderator', 'admin'] as const
export const Role = Type.Union(
  roles.map((role) => Type.Literal(role)),
  { title: 'Role', description: 'Moderators act on members, admins on everybody.' }
)
export type Role = Static<typeof Role>
