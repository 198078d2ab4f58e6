import { Type } from '@sinclair/typebox'

/** Sent as it is on the disk. */
export const WebFile = Type.Unsafe<Buffer>(Type.String({ description: 'A file of the web client.' }))
